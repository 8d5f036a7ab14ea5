package image

import (
	"bytes"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// buildah runs that program with a storage that goes with the test. It asks no registry.
type buildah struct {
	t    *testing.T
	args []string
}

func newBuildah(t *testing.T) *buildah {
	dir := t.TempDir()
	return &buildah{t, []string{"--storage-driver", "vfs", "--root", filepath.Join(dir, "root"), "--runroot", filepath.Join(dir, "run")}}
}

// do runs a command, and returns the last line of what it prints: an identifier.
func (b *buildah) do(args ...string) string {
	b.t.Helper()
	lines := strings.Split(strings.TrimSpace(b.output(args...)), "\n")
	return lines[len(lines)-1]
}

func (b *buildah) output(args ...string) string {
	b.t.Helper()
	cmd := exec.CommandContext(b.t.Context(), "buildah", append(slices.Clip(b.args), args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("buildah %s: %v\n%s\n%s", strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

// config is how a container of an image is started.
type config struct {
	User         string
	ExposedPorts map[string]struct{}
	Entrypoint   []string
}

func (b *buildah) config(image string) (c config) {
	b.t.Helper()
	var inspected struct{ OCIv1 struct{ Config config } }
	if err := json.Unmarshal([]byte(b.output("inspect", "--type", "image", image)), &inspected); err != nil {
		b.t.Fatal(err)
	}
	return inspected.OCIv1.Config
}

// container is one of an image, in which programs can be run.
type container struct {
	*buildah
	id string
}

func (b *buildah) container(image string) container {
	b.t.Helper()
	return container{b, b.do("from", "--pull-never", image)}
}

func (c container) run(command ...string) string {
	c.t.Helper()
	return c.output(append([]string{"run", "--isolation", "chroot", "--user", "0", c.id, "--"}, command...)...)
}

// capabilities are those that a file gives to whoever starts it, as the kernel keeps them.
func (c container) capabilities(file string) string {
	c.t.Helper()
	value := make([]byte, 64)
	n, err := unix.Getxattr(filepath.Join(c.do("mount", c.id), file), "security.capability", value)
	if err != nil {
		c.t.Fatalf("capabilities of %s: %v", file, err)
	}
	return string(value[:n])
}
