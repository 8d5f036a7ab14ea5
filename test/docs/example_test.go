package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The README's Corefile is sound, and its Service has an endpoint.
func TestExample(t *testing.T) {
	text, err := os.ReadFile(repository + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	etc := t.TempDir()
	folders := strings.NewReplacer("/etc/clusterip/", etc+"/", "/var/lib/clusterip/", etc+"/")
	if err := os.Mkdir(filepath.Join(etc, "manifests"), 0o755); err != nil {
		t.Fatal(err)
	}
	for language, name := range map[string]string{"corefile": "Corefile", "yaml": "manifests/web.yaml"} {
		blocks := fencedBlocks(string(text), language)
		if len(blocks) != 1 {
			t.Fatalf("%d blocks marked %s, want 1", len(blocks), language)
		}
		for _, block := range blocks {
			if err := os.WriteFile(filepath.Join(etc, name), []byte(folders.Replace(block)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	corefile := filepath.Join(etc, "Corefile")
	if out, err := exec.Command("coredns", "check", "-conf", corefile).CombinedOutput(); err != nil {
		t.Errorf("check: %v\n%s", err, out)
	}
	out, err := exec.Command("coredns", "rules", "-conf", corefile).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--to-destination 10.42.0.7:8080") {
		t.Errorf("rules: %v\n%s", err, out)
	}
}
