// Package debian fetches packages of Debian's suites, for tests that need other versions than
// the machine has.
package debian

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Suite is one of Debian's: "bookworm".
type Suite string

// Unpack unpacks a package, and those that it needs, into a folder that is not there yet. wanted
// says which of these; nil is all.
func (s Suite) Unpack(dir, name string, wanted func(name string) bool) error {
	work := dir + ".apt"
	for _, d := range []string{dir, work} {
		if err := os.RemoveAll(d); err != nil {
			return err
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	defer os.RemoveAll(work)
	apt, err := s.apt(work)
	if err != nil {
		return err
	}
	if _, err := apt("apt-get", "update"); err != nil {
		return err
	}
	depends, err := apt("apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
		"--no-breaks", "--no-replaces", "--no-enhances", name)
	if err != nil {
		return err
	}
	// Lines that begin with a package, but for virtual ones, which nobody can download.
	packages := slices.DeleteFunc(strings.Split(depends, "\n"), func(p string) bool {
		return strings.HasPrefix(p, " ") || strings.ContainsAny(p, "<>|") || p == "" || wanted != nil && !wanted(p)
	})
	if len(packages) == 0 {
		return fmt.Errorf("suite %s of Debian has no %s:\n%s", s, name, depends)
	}
	if _, err := apt("apt-get", append([]string{"download"}, packages...)...); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if out, err := exec.Command("dpkg-deb", "-x", file, dir).CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w\n%s", file, err, out)
		}
	}
	return nil
}

// apt returns a function that runs apt's programs in a folder of their own, which has
// no source but the suite and no package installed: what the machine's apt
// knows stays as it is.
func (s Suite) apt(dir string) (func(program string, args ...string) (stdout string, err error), error) {
	source := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian " + string(s) + " main\n"
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
