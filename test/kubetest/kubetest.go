// Package kubetest runs real programs for tests: the one of this repository, which it
// builds, and the parts of Kubernetes, which are an API server with its etcd on this
// machine's loopback, and kube-proxy in the namespace of a netlab.Node. `make peers`
// builds those; Require says what is missing. There are two kinds of etcd, and which
// one a control plane has decides how its API server lists.
//
// No kubelet, scheduler or controller runs: a test creates the EndpointSlices and
// Nodes it needs itself. Every process ends with the test that started it, and
// also when the test binary is killed. Nothing of the machine's network is
// changed: kube-proxy runs in namespaces only.
//
// Start with StartProgram, or with Start for an API server.
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

// Require skips the test unless PEERS_REQUIRED=1 is in the environment, and then
// fails it where a program is missing. The programs take long to build and the
// tests minutes to run, so `make test` does without them; `make integration` does
// not.
func Require(t testing.TB) {
	t.Helper()
	if os.Getenv("PEERS_REQUIRED") != "1" {
		t.Skip("needs Kubernetes: make integration runs it")
	}
	var errs []error
	needed := []string{string(Listing), string(Streaming), "kube-apiserver", "kube-proxy", "kubectl"}
	if outside() != "" {
		needed = []string{"kube-proxy"}
	}
	for _, name := range needed {
		_, err := Peer(name)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatalf("PEERS_REQUIRED=1 and %v", err)
	}
}

// Peer finds a program that `make peers` has put into $PEERS, or where the
// Makefile has it by default.
func Peer(name string) (string, error) {
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
