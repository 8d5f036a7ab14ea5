// Package kernels runs tests of this repository on the kernels of Debian's releases, in
// emulated machines: the suite that every backend passes, who gets the packets of a name server
// with a fast path, and the real program's start, changes and cleanup. Each of their cases is a subtest here, named after its kernel.
//
// A kernel is fetched from Debian once, and stays in ~/.cache/clusterip/kernels until
// somebody removes it there. `make kernels` installs what the tests need.
package kernels

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// backends are those that are tried, with the tests of theirs that depend on the kernel. Each
// is a package below kernelnat.
var backends = []struct{ name, tests string }{
	{"iptables", "TestBackend"},
	{"nftables", "TestBackend|TestNextProcessRewritesNothing|TestConnectionsAreCounted|TestSourcesThatOverlapThoseBefore|TestClientWhoseEndpointGoes|TestClientOfEndpointElsewhere|TestMoreClientsThanCanBeRemembered"},
	{"ipvs", "TestBackend|TestChosenByIPVS|TestEndpointOnNode|TestConnectionsOutliveServers|TestForgottenFlowMoves|TestInKernelKept|TestInKernelOneMessage|TestInKernelSwitch|TestInKernelServersAreNobodys|TestInKernelUnknown|TestInKernelLarge|TestInKernelAfterProxy"},
}

const module = "github.com/clusterip/clusterip"

func TestKernels(t *testing.T) {
	list := os.Getenv("KERNELS")
	if list == "" {
		t.Skipf("boots machines for minutes: make kernels runs it, or KERNELS=all or some of %v", all)
	}
	chosen, err := named(list)
	if err != nil {
		t.Fatal(err)
	}
	files, err := build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range chosen {
		t.Run(k.name, func(t *testing.T) {
			image, err := k.fetch()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("Debian's kernel %s", filepath.Base(image.modules))
			disk := filepath.Join(t.TempDir(), "initramfs")
			if err := initramfs(disk, image.modules, files); err != nil {
				t.Fatal(err)
			}
			t.Run("fastpath", func(t *testing.T) {
				boot(t, image.file, disk, "/tests/fastpath", "-test.run=^(TestSteering|TestSteeringToPlaces|TestSteering|TestSteeringToPlaces|TestWhoAnswers|TestBadQueries)$")
			})
			for _, backend := range backends {
				t.Run(backend.name, func(t *testing.T) {
					boot(t, image.file, disk, "/tests/"+backend.name, "-test.run=^("+backend.tests+")$")
					boot(t, image.file, disk, "/tests/e2e", "-test.run=^TestStartChangeCleanup$", "-backend="+backend.name)
				})
			}
		})
	}
}

// boot runs a test binary in a machine and reports its tests as subtests.
func boot(t *testing.T, kernel, disk string, test ...string) {
	t.Helper()
	machine{kernel, disk, noNetwork, programLimit}.boot(t, test...)
}

func (m machine) boot(t *testing.T, test ...string) {
	t.Helper()
	test = append(test, "-test.v=test2json", "-test.timeout="+m.limit.String())
	output, failure := m.run(t.Context(), t.TempDir(), test...)
	whole, err := results(output)
	if err != nil {
		t.Fatal(err)
	}
	whole.report(t)
	switch {
	case failure != nil:
		t.Errorf("%s: %v\n%s", test[0], failure, whole.output.String())
	case len(whole.parts) == 0:
		t.Errorf("%s has no test %s", test[0], test[1])
	}
}

// build builds what the machines run, and returns the files by their path in there.
func build(dir string) (map[string]string, error) {
	files := make(map[string]string)
	goBuild := func(path string, args ...string) error { return buildInto(files, dir, path, args...) }
	if err := goBuild("/init", "build", "/test/kernels/guest"); err != nil {
		return nil, err
	}
	if err := goBuild("/coredns", "build", "/coredns"); err != nil {
		return nil, err
	}
	if err := goBuild("/tests/e2e", "test", "-c", "/test/e2e"); err != nil {
		return nil, err
	}
	if err := goBuild("/tests/fastpath", "test", "-c", "/plugin/clusterip/fastpath"); err != nil {
		return nil, err
	}
	for _, backend := range backends {
		if err := goBuild("/tests/"+backend.name, "test", "-c", "/kernelnat/"+backend.name); err != nil {
			return nil, err
		}
	}
	return files, nil
}

// buildInto has go build one file of a machine, as args say, of which the last one is a package.
func buildInto(files map[string]string, dir, path string, args ...string) error {
	files[path] = filepath.Join(dir, filepath.Base(path))
	cmd := exec.Command("go", append(args[:len(args)-1:len(args)-1], "-ldflags=-s -w", "-o", files[path], module+args[len(args)-1])...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %v: %w\n%s", args, err, out)
	}
	return nil
}
