package kubetest

import (
	"os"
	"strings"
	"testing"
)

// The programs are looked for under the version that is built.
func TestVersion(t *testing.T) {
	text, err := os.ReadFile("../peers/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "k8s.io/kubernetes "+Version+" ") {
		t.Errorf("test/peers/go.mod does not require k8s.io/kubernetes %s", Version)
	}
}
