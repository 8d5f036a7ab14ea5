package kernels

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/clusterip/clusterip/test/debian"
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
	for name := range strings.SplitSeq(list, ",") {
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
var parts = regexp.MustCompile(`^linux-(image|binary|modules)-\d`)

// fetchTo unpacks the kernel into a folder, which is whole as soon as it is there.
func (k kernel) fetchTo(dir string) error {
	unpacked := dir + ".new"
	if err := debian.Suite(k.suite).Unpack(unpacked, "linux-image-cloud-amd64", parts.MatchString); err != nil {
		return err
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
