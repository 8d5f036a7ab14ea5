package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

func TestLayout(t *testing.T) {
	packages := []packaged{
		newPackage(t, "ca-certificates", map[string]string{
			"usr/share/ca-certificates/mozilla/A.crt": "A\n", "usr/share/ca-certificates/mozilla/B.crt": "B\n", "usr/share/doc/ca-certificates/README": "read", "etc/ca-certificates.conf": "",
		}),
		newPackage(t, "iptables", map[string]string{
			"usr/sbin/iptables-nft": "#!", "usr/share/man/man8/iptables.8.gz": "man", "usr/share/doc/iptables/copyright": "GPL", "usr/share/locale/de/x.mo": "x",
			"var/lib/dpkg/README": "",
		}),
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var platforms []platform
	for _, architecture := range []string{"amd64", "arm64"} {
		platforms = append(platforms, platform{program{[]byte("program of " + architecture), architecture, "v1.2.3+dirty", "abcdef", at}, packages})
	}
	written := func() []byte {
		index, err := newIndex(platforms)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "image.tar")
		if err := writeLayout(file, index, platforms[0].tag()); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := written()
	if !bytes.Equal(first, written()) {
		t.Error("twice the same is not the same file")
	}

	index := readLayout(t, first)
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 2 {
		t.Fatalf("images: %v", manifest.Manifests)
	}
	for i, d := range manifest.Manifests {
		want := platforms[i]
		if d.Platform.String() != "linux/"+want.architecture || string(d.MediaType) != "application/vnd.oci.image.manifest.v1+json" {
			t.Errorf("image %d is %s for %v", i, d.MediaType, d.Platform)
		}
		image, err := index.Image(d.Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, image, want)
	}
}

func checkImage(t *testing.T, image v1.Image, want platform) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != want.architecture || !config.Created.Equal(want.at) || config.Config.User != "65532:65532" || config.Config.Labels["org.opencontainers.image.version"] != "v1.2.3+dirty" {
		t.Errorf("config: %+v", config)
	}
	files := readLayers(t, image)
	contents := make(map[string]string)
	there := make(map[string]bool)
	for _, f := range files {
		if there[f.header.Name] {
			t.Errorf("%s is there twice, which not every runtime takes", f.header.Name)
		}
		there[f.header.Name] = true
		if f.header.Typeflag == tar.TypeReg {
			contents[f.header.Name] = string(f.content)
		}
		if f.header.Name == "coredns" && !strings.HasPrefix(f.header.PAXRecords["SCHILY.xattr.security.capability"], "\x01\x00\x00\x02\x00\x04") {
			t.Errorf("coredns has the records %q", f.header.PAXRecords)
		}
	}
	for name, content := range map[string]string{
		"coredns": "program of " + want.architecture, "etc/ssl/certs/ca-certificates.crt": "A\nB\n", "etc/ca-certificates.conf": "",
		"usr/sbin/iptables-nft": "#!", "usr/share/doc/iptables/copyright": "GPL", "var/lib/dpkg/README": "",
	} {
		if contents[name] != content {
			t.Errorf("%s is %q, want %q", name, contents[name], content)
		}
		delete(contents, name)
	}
	for name := range contents {
		if !slices.Contains([]string{"var/lib/dpkg/status.d/ca-certificates", "var/lib/dpkg/status.d/iptables"}, name) {
			t.Errorf("%s is in the image", name)
		}
	}
	if status := contents["var/lib/dpkg/status.d/iptables"]; !strings.Contains(status, "Version: 1.0") {
		t.Errorf("status of iptables: %q", status)
	}
}

// readLayers returns the files of an image, layer by layer.
func readLayers(t *testing.T, image v1.Image) (files []entry) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		archive, err := layer.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		read, err := readTar(archive)
		archive.Close()
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, read...)
	}
	return files
}

// newPackage makes a package and reads it.
func newPackage(t *testing.T, name string, files map[string]string) packaged {
	t.Helper()
	dir := t.TempDir()
	files["DEBIAN/control"] = "Package: " + name + "\nVersion: 1.0\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: test\n"
	for file, content := range files {
		file = filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	deb := filepath.Join(t.TempDir(), name+"_1.0_all.deb")
	if out, err := exec.Command("dpkg-deb", "--root-owner-group", "--build", dir, deb).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	p, err := readPackage(deb)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// readLayout unpacks a layout, and returns the index in it.
func readLayout(t *testing.T, data []byte) v1.ImageIndex {
	t.Helper()
	dir := t.TempDir()
	for archive := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(filepath.Join(dir, header.Name), 0o755)
		} else {
			content, _ := io.ReadAll(archive)
			err = os.WriteFile(filepath.Join(dir, header.Name), content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	outer, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Annotations["org.opencontainers.image.ref.name"] != "v1.2.3-dirty" {
		text, _ := json.Marshal(manifest)
		t.Fatalf("index: %s", text)
	}
	inner, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return inner
}

// A program that does not say of which commit it is has no release.
func TestProgramWithoutCommit(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module example.org/none\n", "main.go": "package main\nfunc main() {}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-o", "none", ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := readProgram(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "does not say of which commit it is") {
		t.Errorf("error %v", err)
	}
	if _, err := readProgram(filepath.Join(dir, "go.mod")); err == nil || !strings.Contains(err.Error(), "go.mod") {
		t.Errorf("error %v", err)
	}
}
