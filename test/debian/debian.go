// Package debian fetches packages of Debian's suites: for tests that need other versions
// than the machine has, and for the image of a release.
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
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	work := dir + ".apt"
	defer os.RemoveAll(work)
	files, err := s.Download(work, "amd64", []string{name}, wanted)
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

// Download fetches packages of an architecture ("arm64", whatever the machine is), and
// those that they need, into a folder of its own, and returns their files, sorted. wanted says
// which of both, and whose needs count besides those of the named; nil is all.
func (s Suite) Download(dir, architecture string, names []string, wanted func(name string) bool) (files []string, err error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	apt, err := s.apt(dir, architecture)
	if err != nil {
		return nil, err
	}
	if _, err := apt("apt-get", "update"); err != nil {
		return nil, err
	}
	depends, err := apt("apt-cache", append([]string{"depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
		"--no-breaks", "--no-replaces", "--no-enhances"}, names...)...)
	if err != nil {
		return nil, err
	}
	packages := needed(depends, names, wanted)
	if len(packages) == 0 {
		return nil, fmt.Errorf("suite %s of Debian has none of %q:\n%s", s, names, depends)
	}
	if _, err := apt("apt-get", append([]string{"download"}, packages...)...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(dir, "*.deb"))
}

// needed reads what apt-cache depends has printed, and returns the wanted packages of the
// named and of what they and wanted ones depend on.
func needed(depends string, names []string, wanted func(name string) bool) (packages []string) {
	on := make(map[string][]string)
	of := ""
	for line := range strings.Lines(depends) {
		line = strings.TrimSuffix(line, "\n")
		if _, name, found := strings.Cut(line, "Depends: "); found {
			on[of] = append(on[of], name)
		} else if !strings.HasPrefix(line, " ") { // who provides a virtual package is indented
			of = line
		}
	}
	isWanted := func(name string) bool { return wanted == nil || wanted(name) }
	reached := make(map[string]bool)
	var reach func(name string)
	reach = func(name string) {
		if reached[name] || strings.HasPrefix(name, "<") { // virtual, which nobody can download
			return
		}
		reached[name] = true
		if isWanted(name) {
			packages = append(packages, name)
		} else if !slices.Contains(names, name) {
			return
		}
		for _, other := range on[name] {
			reach(other)
		}
	}
	for _, name := range names {
		reach(name)
	}
	slices.Sort(packages)
	return packages
}

// apt returns a function that runs apt's programs in a folder of their own, which has
// no source but the suite, and no package installed: what the machine's apt
// knows stays as it is.
func (s Suite) apt(dir, architecture string) (func(program string, args ...string) (stdout string, err error), error) {
	const from = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/"
	source := from + "debian " + string(s) + " main\n"
	if s != "sid" { // where mended packages come at once
		source += from + "debian-security " + string(s) + "-security main\n"
	}
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
		"-o", "APT::Architecture=" + architecture, "-o", "APT::Architectures=" + architecture, "-o", "APT::Sandbox::User=root", "-qq",
	}
	return func(program string, args ...string) (string, error) {
		cmd := exec.Command(program, append(settings, args...)...)
		cmd.Dir = dir
		out, err := cmd.Output()
		if failed, ok := errors.AsType[*exec.ExitError](err); ok {
			err = fmt.Errorf("%s %s: %w\n%s%s", program, args[0], err, out, failed.Stderr)
		}
		return string(out), err
	}, nil
}
