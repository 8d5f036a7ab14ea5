// Package kubetest runs the real parts of Kubernetes for tests: an API server with
// its etcd on this machine's loopback, and kube-proxy in the namespace of a
// nattest.Node. `make peers` builds them; Require says what is missing.
//
// No kubelet, scheduler or controller runs: a test creates the EndpointSlices and
// Nodes it needs itself. Every process ends with the test that started it, and
// also when the test binary is killed. Nothing of the machine's network is
// changed: kube-proxy runs in namespaces only.
//
// Start with Start.
package kubetest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Version is that of Kubernetes in test/peers/go.mod.
const Version = "v1.37.2"

// patience bounds every wait for something that should come about. An API server
// needs several seconds of both cores to start.
const patience = 60 * time.Second

// Require skips the test, with the reason, where a program is missing. With
// E2E_REQUIRED=1 and PEERS_REQUIRED=1 in the environment it fails the test
// instead: the second one is apart because the programs take long to build.
func Require(t testing.TB) {
	t.Helper()
	var errs []error
	for _, name := range []string{"etcd", "kube-apiserver", "kube-proxy"} {
		_, err := program(name)
		errs = append(errs, err)
	}
	switch err := errors.Join(errs...); {
	case err == nil:
	case os.Getenv("E2E_REQUIRED") == "1" && os.Getenv("PEERS_REQUIRED") == "1":
		t.Fatalf("E2E_REQUIRED=1, PEERS_REQUIRED=1 and %v", err)
	default:
		t.Skipf("needs Kubernetes: %v", err)
	}
}

// program finds a program that `make peers` has put into $PEERS, or where the
// Makefile has it by default.
func program(name string) (string, error) {
	dir := os.Getenv("PEERS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find %s: %w", name, err)
		}
		dir = filepath.Join(cache, "clusterip", "peers", Version)
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("find %s: %w (make peers puts it there)", name, err)
	}
	return path, nil
}
