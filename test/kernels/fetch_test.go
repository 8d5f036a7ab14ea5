package kernels

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// kernel is one of Debian's for machines in clouds: few drivers, and all of the network.
type kernel struct {
	name string // as in KERNELS
	// suite is that of Debian's which the kernel belongs to.
	suite string
}

var all = []kernel{{"5.10", "bullseye"}, {"6.1", "bookworm"}, {"6.12", "trixie"}, {"newest", "sid"}}

// named are the kernels that KERNELS names.
func named(list string) ([]kernel, error) {
	if list == "all" {
		return all, nil
	}
	var out []kernel
	for _, name := range strings.Split(list, ",") {
		before := len(out)
		for _, k := range all {
			if k.name == name {
				out = append(out, k)
			}
		}
		if len(out) == before {
			return nil, fmt.Errorf("KERNELS has %q, which is none of %v, nor \"all\" alone", name, all)
		}
	}
	return out, nil
}

func (k kernel) String() string { return k.name }

// image is a kernel that was fetched.
type image struct {
	file    string // to boot
	modules string // the folder /lib/modules/VERSION of the machine
}

// fetch returns the kernel out of the cache, into which it is fetched once.
func (k kernel) fetch() (image, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return image{}, err
	}
	dir := filepath.Join(cache, "clusterip", "kernels", k.name)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		err = k.fetchTo(dir)
		if err != nil {
			return image{}, fmt.Errorf("fetch kernel %s: %w", k, err)
		}
	}
	modules, err := onlyOne(dir, "lib/modules/*", "usr/lib/modules/*")
	if err != nil {
		return image{}, err
	}
	file, err := onlyOne(dir, "boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")
	return image{file, modules}, err
}

func onlyOne(dir string, patterns ...string) (string, error) {
	var found []string
	for _, pattern := range patterns {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return "", err
		}
		found = append(found, files...)
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s has %q of %q: remove the folder, and it is made anew", dir, found, patterns)
	}
	return found[0], nil
}

// parts are the packages that a kernel's own package consists of, or refers to.
var parts = regexp.MustCompile(`(?m)^linux-(image|binary|modules)-\d.*$`)

// fetchTo unpacks the kernel into a folder, which is whole as soon as it is there.
func (k kernel) fetchTo(dir string) error {
	unpacked, work := dir+".new", dir+".apt"
	for _, d := range []string{unpacked, work} {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	defer os.RemoveAll(work)
	apt, err := k.apt(work)
	if err != nil {
		return err
	}
	if _, err := apt("apt-get", "update"); err != nil {
		return err
	}
	depends, err := apt("apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
		"--no-breaks", "--no-replaces", "--no-enhances", "linux-image-cloud-amd64")
	if err != nil {
		return err
	}
	packages := parts.FindAllString(depends, -1)
	if len(packages) == 0 {
		return fmt.Errorf("Debian's suite %s has no kernel:\n%s", k.suite, depends)
	}
	if _, err := apt("apt-get", append([]string{"download"}, packages...)...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if out, err := exec.Command("dpkg-deb", "-x", file, unpacked).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w\n%s", file, err, out)
		}
	}
	if err := listModules(unpacked); err != nil {
		return err
	}
	return os.Rename(unpacked, dir)
}

// listModules writes modules.dep and what else modprobe needs, as the package does when
// it is installed.
func listModules(unpacked string) error {
	modules, err := onlyOne(unpacked, "lib/modules/*", "usr/lib/modules/*")
	if err != nil {
		return err
	}
	base := filepath.Dir(filepath.Dir(filepath.Dir(modules)))
	if out, err := exec.Command("depmod", "-b", base, filepath.Base(modules)).CombinedOutput(); err != nil {
		return fmt.Errorf("depmod: %w\n%s", err, out)
	}
	return nil
}

// apt returns a function that runs apt's programs in a folder of their own, which has
// no source but the kernel's suite and no package installed: what the machine's apt
// knows stays as it is.
func (k kernel) apt(dir string) (func(program string, args ...string) (stdout string, err error), error) {
	source := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian " + k.suite + " main\n"
	for name, text := range map[string]string{"sources.list": source, "status": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	for _, name := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return nil, err
		}
	}
	settings := []string{
		"-o", "Dir::State=" + dir, "-o", "Dir::State::status=" + filepath.Join(dir, "status"), "-o", "Dir::Cache=" + dir,
		"-o", "Dir::Etc::SourceList=" + filepath.Join(dir, "sources.list"), "-o", "Dir::Etc::SourceParts=/dev/null",
		"-o", "APT::Architecture=amd64", "-o", "APT::Sandbox::User=root", "-qq",
	}
	return func(program string, args ...string) (string, error) {
		cmd := exec.Command(program, append(settings, args...)...)
		cmd.Dir = dir
		out, err := cmd.Output()
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			err = fmt.Errorf("%s %s: %w\n%s%s", program, args[0], err, out, failed.Stderr)
		}
		return string(out), err
	}, nil
}
