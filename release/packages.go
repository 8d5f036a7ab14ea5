package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/test/debian"
)

// What the image has besides the program, as the Dockerfile installs it. base-files has
// the folders and says which Debian this is; all else are libraries.
const suite = debian.Suite("bookworm")

var named = []string{"base-files", "ca-certificates", "iptables", "netbase", "nftables"}

func inImage(name string) bool { return slices.Contains(named, name) || strings.HasPrefix(name, "lib") }

// fetchPackages fetches those of an architecture, in the order of their names. Debian and
// Go have the same names for the architectures that are released.
func fetchPackages(architecture string) ([]packaged, error) {
	dir, err := os.MkdirTemp("", "clusterip-release-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	files, err := suite.Download(filepath.Join(dir, architecture), architecture, named, inImage)
	if err != nil {
		return nil, err
	}
	packages := make([]packaged, len(files))
	for i, file := range files {
		if packages[i], err = readPackage(file); err != nil {
			return nil, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	return packages, nil
}

// packaged is a package of Debian.
type packaged struct {
	name    string
	control string // its paragraph of fields
	files   []entry
}

// entry is a file of a tar archive.
type entry struct {
	header  *tar.Header // with a name as "usr/sbin/nft"
	content []byte
}

func readPackage(file string) (packaged, error) {
	control, err := exec.Command("dpkg-deb", "-f", file).Output()
	if err != nil {
		return packaged{}, err
	}
	name, _, _ := strings.Cut(filepath.Base(file), "_")
	archive := exec.Command("dpkg-deb", "--fsys-tarfile", file)
	stream, err := archive.StdoutPipe()
	if err != nil {
		return packaged{}, err
	}
	if err := archive.Start(); err != nil {
		return packaged{}, err
	}
	files, err := readTar(stream)
	return packaged{name, string(control), files}, errors.Join(err, archive.Wait())
}

// readTar reads an archive to its end, as its writer wants.
func readTar(r io.Reader) (files []entry, err error) {
	for archive := tar.NewReader(r); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r)
			return files, err
		}
		if err != nil {
			return nil, err
		}
		header.Name = path.Clean(header.Name)
		content, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		files = append(files, entry{header, content})
	}
}

const certificates = "usr/share/ca-certificates/"

// packagesLayer returns the files of packages, without documentation. Nothing was installed,
// so what packages do then is done here: the certificates are one file, and
// var/lib/dpkg/status.d says which packages there are, as scanners of images read it.
func packagesLayer(packages []packaged, at time.Time) []entry {
	var files []entry
	there := map[string]bool{".": true}
	add := func(f entry) {
		if !there[f.header.Name] { // a folder may be in several packages
			files, there[f.header.Name] = append(files, f), true
		}
	}
	var roots []byte
	for _, p := range packages {
		for _, f := range p.files {
			name := f.header.Name
			if strings.HasPrefix(name, certificates) && strings.HasSuffix(name, ".crt") {
				roots = append(roots, f.content...)
			}
			if !isLeftOut(name) {
				add(f)
			}
		}
	}
	add(regular("etc/ssl/certs/ca-certificates.crt", 0o644, roots, at))
	add(folder("var/lib/dpkg", at))
	add(folder("var/lib/dpkg/status.d", at))
	for _, p := range packages {
		add(regular("var/lib/dpkg/status.d/"+p.name, 0o644, []byte(p.control), at))
	}
	return files
}

// isLeftOut says what an image does without. The licences stay.
func isLeftOut(name string) bool {
	if path.Base(name) == "copyright" {
		return false
	}
	for _, dir := range []string{"usr/share/man/", "usr/share/locale/", "usr/share/lintian/", "usr/share/bug/", certificates} {
		if strings.HasPrefix(name+"/", dir) {
			return true
		}
	}
	inDoc, found := strings.CutPrefix(name, "usr/share/doc/")
	return found && strings.Contains(inDoc, "/")
}

func regular(name string, mode int64, content []byte, at time.Time) entry {
	return entry{&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(content)), ModTime: at}, content}
}

func folder(name string, at time.Time) entry {
	return entry{&tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755, ModTime: at}, nil}
}
