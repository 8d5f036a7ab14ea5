package debian

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Program returns the command that runs a program of a package with its own libraries. They
// are fetched once and kept; nothing is installed, so no server is started.
func (s Suite) Program(name, path string) ([]string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "clusterip", "debian", string(s), name)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		needed := func(p string) bool { return p == name || strings.HasPrefix(p, "lib") }
		if err := s.Unpack(dir+".new", name, needed); err != nil {
			return nil, err
		}
		if err := os.Rename(dir+".new", dir); err != nil {
			return nil, err
		}
	}
	folders := []string{filepath.Join(dir, "lib/x86_64-linux-gnu"), filepath.Join(dir, "usr/lib/x86_64-linux-gnu")}
	for _, f := range folders {
		loader := filepath.Join(f, "ld-linux-x86-64.so.2")
		if _, err := os.Stat(loader); err == nil {
			return []string{loader, "--library-path", strings.Join(folders, ":"), filepath.Join(dir, path)}, nil
		}
	}
	return nil, fmt.Errorf("%s of %s has no loader below %s", name, s, dir)
}
