package main

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"coredns": main})
}

// The scripts in testdata/script call the program as users do. The condition netns is that they
// can have a network namespace of their own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", Condition: func(condition string) (bool, error) {
		if condition != "netns" {
			return false, fmt.Errorf("there is no condition %q", condition)
		}
		return exec.Command("unshare", "-n", "true").Run() == nil, nil
	}})
}
