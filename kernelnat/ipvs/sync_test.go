package ipvs

import (
	"errors"
	"os"
	"testing"

	"github.com/clusterip/clusterip/kernelnat"
)

// Where the kernel has no IPVS, the first Sync says so, though there is no Service yet.
func TestWithoutIPVS(t *testing.T) {
	if _, err := os.Stat(sysctls); err == nil {
		t.Skip("this kernel has ip_vs")
	}
	backends, err := newBackends(settings, new(client))
	if err != nil {
		t.Fatal(err)
	}
	for family, b := range backends {
		if written, err := b.Sync(t.Context(), kernelnat.State{}); !errors.Is(err, errNotLoaded) || len(written) > 0 {
			t.Errorf("%s: %q, %v", family, written, err)
		}
	}
}
