package image

import (
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

var dist = flag.String("dist", "", "the `FOLDER` that make release has filled, for TestRelease")

func TestRelease(t *testing.T) {
	if *dist == "" {
		t.Skip("no release to look at: make release-check makes one")
	}
	netlab.Require(t, "buildah")
	sums := exec.Command("sha256sum", "--check", "--strict", "SHA256SUMS")
	sums.Dir = *dist
	if out, err := sums.CombinedOutput(); err != nil {
		t.Errorf("checksums: %v\n%s", err, out)
	}
	version := ""
	for name, machine := range map[string]elf.Machine{"coredns-linux-amd64": elf.EM_X86_64, "coredns-linux-arm64": elf.EM_AARCH64} {
		program := filepath.Join(*dist, name)
		isStatic(t, program, machine)
		info, err := buildinfo.ReadFile(program)
		if err != nil {
			t.Fatal(err)
		}
		version = info.Main.Version
		listsModules(t, program+".cdx.json", info)
	}
	b := newBuildah(t)
	b.do("pull", "oci-archive:"+filepath.Join(*dist, "clusterip-image.tar"))
	check(t, b, b.do("images", "--quiet"), version)
}

func isStatic(t *testing.T, program string, machine elf.Machine) {
	t.Helper()
	f, err := elf.Open(program)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != machine {
		t.Errorf("%s is for %v", program, f.Machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is not static", program)
		}
	}
}

// listsModules compares what a software bill of materials says with what Go says that a
// program consists of.
func listsModules(t *testing.T, file string, info *buildinfo.BuildInfo) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var bill struct {
		BOMFormat string
		Metadata  struct {
			Component struct{ Name, Version string }
		}
		Components []struct{ Name, Version string }
	}
	if err := json.Unmarshal(data, &bill); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if own := bill.Metadata.Component; bill.BOMFormat != "CycloneDX" || own.Name != info.Main.Path || own.Version != info.Main.Version {
		t.Errorf("%s: a %s of %v", file, bill.BOMFormat, own)
	}
	listed := make(map[string]string)
	for _, c := range bill.Components {
		listed[c.Name] = c.Version
	}
	for _, m := range info.Deps {
		if listed[m.Path] != m.Version {
			t.Errorf("%s has %s in version %q, and the program %s", file, m.Path, listed[m.Path], m.Version)
		}
	}
}
