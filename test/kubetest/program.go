package kubetest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// built is the folder of what Build has built; "" outside Main.
var built string

// Main is for TestMain of packages that build the program: it runs the tests, removes
// what they have built, and exits.
func Main(run func() (code int)) {
	var err error
	if built, err = os.MkdirTemp("", "clusterip-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := run()
	os.RemoveAll(built)
	os.Exit(code)
}

// Build builds the program of this repository, with the race detector or as it is
// shipped, when it is first called, and returns its path. It needs Main. Where there is
// no Go, in the machines of test/kernels, COREDNS in the environment is the path of one
// that was built before.
func Build(race bool) (path string, err error) { return builds[race]() }

var builds = map[bool]func() (string, error){
	false: sync.OnceValues(func() (string, error) { return build(false) }),
	true:  sync.OnceValues(func() (string, error) { return build(true) }),
}

func build(race bool) (path string, err error) {
	if path := os.Getenv("COREDNS"); path != "" {
		return path, nil
	}
	if built == "" {
		return "", errors.New("build coredns: TestMain does not call kubetest.Main")
	}
	flag := fmt.Sprintf("-race=%t", race)
	path = filepath.Join(built, flag, "coredns")
	if out, err := exec.Command("go", "build", flag, "-o", path, "github.com/clusterip/clusterip/coredns").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build coredns: %w\n%s", err, out)
	}
	return path, nil
}

// Program is Build for a test, which fails if that fails.
func Program(t testing.TB, race bool) (path string) {
	t.Helper()
	path, err := Build(race)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// StartProgram starts the program with a Corefile, as StartOn does.
func StartProgram(t testing.TB, host *netlab.Host, race bool, corefile string) *Process {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "Corefile")
	if err := os.WriteFile(conf, []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	return StartOn(t, host, exec.Command(Program(t, race), "-conf", conf))
}
