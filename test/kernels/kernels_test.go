// Package kernels runs tests of this repository on the kernels of Debian's releases, in
// emulated machines: the suite that every backend passes, who gets the packets of a name server
// with a fast path, and the real program's start, changes and cleanup. Each of their cases is a subtest here, named after its kernel.
//
// A kernel is fetched from Debian once, and stays in ~/.cache/clusterip/kernels until
// somebody removes it there. `make kernels` installs what the tests need.
package kernels

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// trial is what one machine runs: tests of a program, which have programLimit.
type trial struct {
	name    string   // that of the subtest
	program string   // below /tests
	run     string   // a pattern of tests
	args    []string // more of them
	long    bool     // only if the whole is asked for
}

// trials are in each kernel's order. The cases of a suite that takes too long for one machine are
// divided by their first letter, so that none is left out.
var trials = []trial{
	{name: "fastpath", program: "fastpath", run: "^(TestSteering|TestSteeringToPlaces|TestWhoAnswers|TestBadQueries)$"},
	{name: "iptables", program: "iptables", run: "^TestBackend$"},
	{name: "iptables-program", program: "e2e", run: startChangeCleanup, args: []string{"-backend=iptables"}},
	{name: "nftables", program: "nftables", run: "^(TestBackend|TestNextProcessRewritesNothing|TestConnectionsAreCounted|TestSourcesThatOverlapThoseBefore|TestClientWhoseEndpointGoes|TestClientOfEndpointElsewhere|TestMoreClientsThanCanBeRemembered)$"},
	{name: "nftables-program", program: "e2e", run: startChangeCleanup, args: []string{"-backend=nftables"}},
	{name: "ipvs-a", program: "ipvs", run: "^TestBackend$/^[A-R]"},
	{name: "ipvs-s", program: "ipvs", run: "^TestBackend$/^[S-Z]"},
	{name: "ipvs-kernel", program: "ipvs", run: "^TestInKernel", args: []string{"-test.skip=" + measures}},
	{name: "ipvs-measures", program: "ipvs", run: measures, long: true},
	{name: "ipvs-program", program: "e2e", run: startChangeCleanup, args: []string{"-backend=ipvs"}},
}

const (
	startChangeCleanup = "^TestStartChangeCleanup$"
	// measures are tests of ipvs with hundreds of connections, or of Services.
	measures = "^TestInKernel(Hashing|LeastConnections|ManyServices|Weights)$"
)

var whole = flag.Bool("whole", false, "run what takes long too")

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
			for _, trial := range trials {
				t.Run(trial.name, func(t *testing.T) {
					if trial.long && !*whole {
						t.Skip("it takes long: -whole runs it, and make kernels WHOLE=true")
					}
					boot(t, image.file, disk, append([]string{"/tests/" + trial.program, "-test.run=" + trial.run}, trial.args...)...)
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
	for program, path := range map[string]string{
		"e2e": "/test/e2e", "fastpath": "/plugin/clusterip/fastpath",
		"iptables": "/kernelnat/iptables", "nftables": "/kernelnat/nftables", "ipvs": "/kernelnat/ipvs",
	} {
		if err := goBuild("/tests/"+program, "test", "-c", path); err != nil {
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
