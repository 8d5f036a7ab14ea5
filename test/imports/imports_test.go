// Package imports enforces the direction in which data flows: who may import
// whom. See docs/architecture.md.
package imports

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/clusterip/clusterip/"

// allowed lists for a package (and those below it) which packages of the module
// it may import, besides those below itself. The longest entry decides.
var allowed = map[string][]string{
	"hostaddrs":             {},
	"cluster":               {},
	"cluster/convert":       {"cluster"},
	"cluster/allocator":     {"cluster"},
	"cluster/manifest":      {"cluster", "cluster/convert", "cluster/allocator"},
	"cluster/kubernetes":    {"cluster", "cluster/convert"},
	"cluster/feed":          {"cluster", "cluster/manifest", "cluster/kubernetes"},
	"plugin/directive":      {},
	"plugin/clusterip/zone": {"cluster"},
	"plugin/clusterip":      {"cluster", "cluster/feed", "cluster/manifest", "cluster/kubernetes", "hostaddrs", "plugin/directive"},
	"kernelnat/plan":        {"cluster"},
	"kernelnat/conntrack":   {"cluster", "hostaddrs", "kernelnat/plan"},
	"kernelnat/netfilter":   {"cluster", "hostaddrs", "kernelnat/plan"},
	"kernelnat/iptables":    {"cluster", "kernelnat", "kernelnat/netfilter", "kernelnat/plan"},
	"kernelnat/backends":    {"cluster", "kernelnat", "kernelnat/iptables", "kernelnat/netfilter"},
	"kernelnat/healthcheck": {"cluster", "kernelnat/plan"},
	"kernelnat/netlab":      {"cluster"},
	"kernelnat/backendtest": {"cluster", "kernelnat", "kernelnat/plan", "kernelnat/netlab"},
	"kernelnat":             {"cluster", "hostaddrs", "status"},
	"plugin/kernelnat":      {"cluster", "cluster/feed", "hostaddrs", "plugin/directive", "kernelnat", "kernelnat/conntrack", "kernelnat/healthcheck", "kernelnat/backends", "kernelnat/netfilter", "kernelnat/plan"},
	"status":                {"cluster", "kernelnat/plan"},
	"corefile":              {},
	"coredns/demo":          {"cluster", "kernelnat/netlab"},
	"coredns":               {"cluster", "cluster/feed", "cluster/kubernetes", "cluster/manifest", "corefile", "kernelnat", "kernelnat/backends", "kernelnat/plan", "plugin/clusterip", "plugin/kernelnat"},
}

// forbidden lists what a package (and those below it) must not use, even
// through others.
var forbidden = map[string][]string{
	"hostaddrs":             {"github.com/coredns/", "github.com/miekg/dns", "github.com/vishvananda/netlink"},
	"cluster":               {"github.com/coredns/", "github.com/miekg/dns", "github.com/vishvananda/netlink"},
	"plugin/clusterip/zone": {"github.com/coredns/", "github.com/vishvananda/netlink"},
	"kernelnat/plan":        {"github.com/coredns/", "github.com/miekg/dns", "github.com/vishvananda/netlink"},
	"kernelnat":             {"github.com/coredns/", "github.com/miekg/dns"},
}

// pure packages must not reach for the outside themselves: no I/O, clock,
// logging or goroutines that wait for each other.
var (
	pure   = []string{"plugin/clusterip/zone", "kernelnat/plan"}
	impure = []string{"context", "io", "log", "log/slog", "net", "os", "os/exec", "sync", "syscall", "time"}
)

func TestPure(t *testing.T) {
	imports := list(t, "Imports")
	for _, pkg := range pure {
		for _, imported := range imports[pkg] {
			if slices.Contains(impure, imported) {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
}

func TestDirection(t *testing.T) {
	for pkg, imports := range list(t, "Imports") {
		owner := longest(allowed, pkg)
		if owner == "" {
			t.Errorf("package %s has no entry: say what it may import", pkg)
			continue
		}
		for _, imported := range imports {
			imported, ours := strings.CutPrefix(imported, module)
			if ours && !below(owner, imported) && !slices.Contains(allowed[owner], imported) {
				t.Errorf("%s imports %s", pkg, imported)
			}
		}
	}
}

func TestForbidden(t *testing.T) {
	for pkg, deps := range list(t, "Deps") {
		for owner, prefixes := range forbidden {
			if !below(owner, pkg) {
				continue
			}
			for _, dep := range deps {
				for _, prefix := range prefixes {
					if dep == prefix || strings.HasPrefix(dep, strings.TrimSuffix(prefix, "/")+"/") {
						t.Errorf("%s depends on %s", pkg, dep)
					}
				}
			}
		}
	}
}

// list maps each package of the module to one of its lists as `go list` has it.
func list(t *testing.T, field string) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join ."+field+` " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	packages := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if pkg, ours := strings.CutPrefix(fields[0], module); ours && !strings.HasPrefix(pkg, "test/") {
			packages[pkg] = fields[1:]
		}
	}
	return packages
}

func longest(entries map[string][]string, pkg string) (owner string) {
	for entry := range entries {
		if below(entry, pkg) && len(entry) > len(owner) {
			owner = entry
		}
	}
	return owner
}

func below(owner, pkg string) bool { return pkg == owner || strings.HasPrefix(pkg, owner+"/") }
