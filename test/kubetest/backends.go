package kubetest

import "testing"

// EachBackend runs a test of packets with each backend of kernelnat.
func EachBackend(t *testing.T, test func(t *testing.T, backend string)) {
	for _, backend := range []string{"iptables", "nftables"} {
		t.Run(backend, func(t *testing.T) { test(t, backend) })
	}
}
