// Package image builds the container image from the Dockerfile, and looks at what make release
// has made.
package image

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/google/go-cmp/cmp"
)

const repository = "../.."

// The Dockerfile is built on images under the names that it has for them, made of this
// machine's Go and of Debian's packages, so no registry is asked.
func TestDockerfile(t *testing.T) {
	netlab.Require(t, "buildah", "mmdebstrap")
	b := newBuildah(t)
	debian(t, b)
	golang(t, b)
	// What Go has fetched and compiled before, it need not again: that makes no difference
	// to what it builds.
	b.do("bud", "--isolation", "chroot", "--pull-never", "--build-arg", "VERSION=v1.2.3",
		"--volume", filepath.Join(goEnv(t, "GOMODCACHE"), "cache/download")+":/modules:ro", "--volume", goEnv(t, "GOCACHE")+":/root/.cache/go-build",
		"--tag", "clusterip", repository)
	check(t, b, "clusterip", "v1.2.3")
	if out := b.container("clusterip").run("iptables", "--version"); !strings.Contains(out, "nf_tables") {
		t.Errorf("iptables --version: %s", out)
	}
}

// check is what images of the Dockerfile and of releases have in common.
func check(t *testing.T, b *buildah, image, version string) {
	t.Helper()
	want := config{User: "65532:65532", ExposedPorts: map[string]struct{}{"53/tcp": {}, "53/udp": {}}, Entrypoint: []string{"/coredns"}}
	if diff := cmp.Diff(want, b.config(image)); diff != "" {
		t.Error(diff)
	}
	c := b.container(image)
	if out := c.run("/coredns", "-version"); !strings.Contains(out, "CoreDNS-") || !strings.Contains(out, fmt.Sprintf("%s/%s, ", runtime.GOOS, runtime.GOARCH)) || !strings.HasSuffix(out, ", clusterip-"+version+"\n") {
		t.Errorf("coredns -version: %s", out)
	}
	if out := c.run("iptables-nft", "--version"); !strings.Contains(out, "nf_tables") {
		t.Errorf("iptables-nft --version: %s", out)
	}
	if out := c.run("iptables-legacy", "--version"); !strings.Contains(out, "legacy") {
		t.Errorf("iptables-legacy --version: %s", out)
	}
	if out := c.run("nft", "--version"); !strings.Contains(out, "nftables v") {
		t.Errorf("nft --version: %s", out)
	}
	if want := "\x01\x00\x00\x02\x00\x04\x00\x00" + strings.Repeat("\x00", 12); c.capabilities("coredns") != want {
		t.Errorf("capabilities of coredns: %q, want %q: cap_net_bind_service=ep", c.capabilities("coredns"), want)
	}
}

// debian makes debian:bookworm-slim.
func debian(t *testing.T, b *buildah) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "debian.tar")
	if out, err := exec.CommandContext(t.Context(), "mmdebstrap", "--variant=apt", "bookworm", root).CombinedOutput(); err != nil {
		t.Fatalf("mmdebstrap: %v\n%s", err, out)
	}
	c := b.do("from", "scratch")
	b.do("add", c, root, "/")
	b.do("commit", "--rm", c, "docker.io/library/debian:bookworm-slim")
}

// golang makes golang:1.26-bookworm.
func golang(t *testing.T, b *buildah) {
	t.Helper()
	c := b.do("from", "--pull-never", "docker.io/library/debian:bookworm-slim")
	b.do("copy", c, goEnv(t, "GOROOT"), "/usr/local/go")
	b.do("copy", c, "/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/certs/")
	b.do("config", "--env", "GOPATH=/go", "--env", "PATH=/usr/local/go/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"--env", "GOPROXY=file:///modules,"+goEnv(t, "GOPROXY"), c)
	b.do("commit", "--rm", c, "docker.io/library/golang:1.26-bookworm")
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
