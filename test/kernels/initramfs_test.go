package kernels

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// tools are the programs that the tests, and the kernel, start in the machine.
func tools() []string {
	out := []string{"nft", "modprobe", "ipset"}
	for _, tool := range []string{"iptables", "ip6tables"} {
		for _, variant := range []string{"", "-nft", "-legacy"} {
			for _, does := range []string{"", "-save", "-restore"} {
				out = append(out, tool+variant+does)
			}
		}
	}
	return out
}

// initramfs writes the machine's file system, an archive of cpio's format "newc". It has
// this machine's tools, the kernel's modules, and files by their path in the machine.
func initramfs(path string, modules string, files map[string]string) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	out := bufio.NewWriter(file)
	a := &archive{out: out, has: make(map[string]bool)}
	for _, add := range []func() error{
		func() error { return a.addAll(files) },
		a.addTools,
		func() error { return a.addModules(modules) },
		func() error { return a.entry("TRAILER!!!", 0, 0, strings.NewReader("")) },
		out.Flush,
	} {
		if err := add(); err != nil {
			return fmt.Errorf("make the initramfs: %w", err)
		}
	}
	return file.Close()
}

type archive struct {
	out io.Writer
	has map[string]bool // paths
}

func (a *archive) addAll(files map[string]string) error {
	for path, from := range files {
		if err := a.add(path, from); err != nil {
			return err
		}
	}
	return nil
}

// addTools adds the tools with their libraries, and the plugins of iptables with theirs.
func (a *archive) addTools() error {
	linked, err := filepath.Glob("/usr/lib/*/xtables/*.so")
	if err != nil {
		return err
	}
	for _, plugin := range linked {
		if err := a.add(plugin, plugin); err != nil {
			return err
		}
	}
	for _, tool := range tools() {
		path, err := exec.LookPath(tool)
		if err != nil {
			return err
		}
		if err := a.add("/sbin/"+tool, path); err != nil { // where the kernel looks for modprobe
			return err
		}
		linked = append(linked, path)
	}
	libraries, err := exec.Command("ldd", linked...).Output()
	if err != nil {
		return fmt.Errorf("ldd: %w", err)
	}
	for word := range strings.FieldsSeq(string(libraries)) {
		if strings.HasPrefix(word, "/") && !strings.HasSuffix(word, ":") {
			if err := a.add(word, word); err != nil {
				return err
			}
		}
	}
	return nil
}

// addModules adds the modules of the network with all that these depend on: everything
// but file systems, and of the drivers only those of interfaces without hardware, and of QEMU's.
func (a *archive) addModules(dir string) error {
	drivers := filepath.Join(dir, "kernel", "drivers")
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch below := strings.TrimPrefix(path, drivers+"/"); {
		case err != nil:
			return err
		case path == filepath.Join(dir, "kernel", "fs"), d.IsDir() && below != path && below != "net" && below != "virtio":
			return fs.SkipDir
		case !d.Type().IsRegular(), d.Name() == "vmlinuz":
			return nil
		}
		rest, err := filepath.Rel(filepath.Dir(dir), path)
		if err != nil {
			return err
		}
		return a.add("/lib/modules/"+rest, path)
	})
}

// add adds a copy of a file, once, with the folders that lead to it.
func (a *archive) add(path, from string) error {
	if a.has[path] {
		return nil
	}
	a.has[path] = true
	if err := a.addFolder(filepath.Dir(path)); err != nil {
		return err
	}
	file, err := os.Open(from)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	return a.entry(path, 0o100000|uint32(info.Mode().Perm()), info.Size(), file)
}

func (a *archive) addFolder(path string) error {
	if path == "/" || a.has[path] {
		return nil
	}
	a.has[path] = true
	if err := a.addFolder(filepath.Dir(path)); err != nil {
		return err
	}
	return a.entry(path, 0o040755, 0, strings.NewReader(""))
}

// entry writes one entry as Documentation/driver-api/early-userspace/buffer-format.rst of
// the kernel has it.
func (a *archive) entry(path string, mode uint32, size int64, data io.Reader) error {
	name := strings.TrimPrefix(path, "/")
	header := "070701"
	for _, field := range []int64{0, int64(mode), 0, 0, 1, 0, size, 0, 0, 0, 0, int64(len(name)) + 1, 0} {
		header += fmt.Sprintf("%08x", field)
	}
	header += name + "\x00"
	if _, err := io.WriteString(a.out, header+padding(int64(len(header)))); err != nil {
		return err
	}
	if _, err := io.CopyN(a.out, data, size); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	_, err := io.WriteString(a.out, padding(size))
	return err
}

// padding fills up to a multiple of four bytes.
func padding(size int64) string { return "\x00\x00\x00"[:(4-size%4)%4] }
