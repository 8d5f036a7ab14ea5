// Package imports enforces the direction in which data flows: who may import
// whom. See docs/architecture.md.
package imports

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/clusterip/clusterip/"

// allowed lists for a package (and those below it) which packages of the module
// it may import, besides those below itself. The longest entry decides.
var allowed = map[string][]string{
	"hostaddrs":                   {},
	"cluster":                     {},
	"cluster/convert":             {"cluster"},
	"cluster/validation":          {"cluster", "cluster/convert"},
	"cluster/allocator":           {"cluster"},
	"cluster/manifest":            {"cluster", "cluster/convert", "cluster/validation", "cluster/allocator"},
	"cluster/kubernetes":          {"cluster", "cluster/convert"},
	"cluster/feed":                {"cluster", "cluster/manifest", "cluster/kubernetes"},
	"plugin/directive":            {},
	"plugin/clusterip/wire":       {},
	"plugin/clusterip/zone":       {"cluster", "plugin/clusterip/wire"},
	"plugin/clusterip/zone/addrs": {},
	"plugin/clusterip/fastpath":   {},
	"plugin/clusterip":            {"cluster", "cluster/allocator", "cluster/feed", "cluster/manifest", "cluster/kubernetes", "explain", "hostaddrs", "plugin/directive", "status"},
	"kernelnat/plan":              {"cluster"},
	"kernelnat/conntrack":         {"cluster", "hostaddrs", "kernelnat/plan"},
	"kernelnat/netfilter":         {"cluster", "hostaddrs", "kernelnat/plan"},
	"kernelnat/iptables":          {"cluster", "kernelnat", "kernelnat/conntrack", "kernelnat/netfilter", "kernelnat/plan", "status"},
	"kernelnat/nftables":          {"cluster", "kernelnat", "kernelnat/conntrack", "kernelnat/netfilter", "kernelnat/plan", "status"},
	"kernelnat/ipvs":              {"cluster", "kernelnat", "kernelnat/netfilter", "kernelnat/nftables", "kernelnat/plan", "status"},
	"kernelnat/backends":          {"cluster", "kernelnat", "kernelnat/iptables", "kernelnat/ipvs", "kernelnat/nftables", "kernelnat/netfilter", "kernelnat/plan", "status"},
	"kernelnat/healthcheck":       {"cluster", "kernelnat/plan"},
	"kernelnat/netlab":            {"cluster"},
	"kernelnat/backendtest":       {"cluster", "kernelnat", "kernelnat/plan", "kernelnat/netlab"},
	"kernelnat":                   {"cluster", "hostaddrs", "status"},
	"plugin/kernelnat":            {"cluster", "cluster/feed", "explain", "status", "hostaddrs", "plugin/directive", "kernelnat", "kernelnat/conntrack", "kernelnat/healthcheck", "kernelnat/backends", "kernelnat/netfilter", "kernelnat/plan"},
	"plugin/admin":                {"explain", "status"},
	"status":                      {"cluster", "kernelnat/plan"},
	"difference":                  {"cluster", "kernelnat/plan", "plugin/clusterip/zone"},
	"status/text":                 {"status"},
	"explain":                     {"cluster", "hostaddrs", "kernelnat/plan", "status"},
	"preflight":                   {},
	"preflight/machine":           {"cluster", "hostaddrs", "kernelnat", "kernelnat/backends", "kernelnat/iptables", "kernelnat/netfilter", "preflight"},
	"corefile":                    {},
	"coredns/demo":                {"cluster", "kernelnat/netlab"},
	"coredns":                     {"cluster", "cluster/allocator", "cluster/feed", "cluster/kubernetes", "cluster/manifest", "corefile", "difference", "explain", "kernelnat", "kernelnat/backends", "kernelnat/netfilter", "kernelnat/plan", "plugin/admin", "plugin/clusterip", "plugin/kernelnat", "preflight", "preflight/machine", "status", "status/text"},
}

// forbidden lists what a package (and those below it) must not use, even
// through others.
var forbidden = map[string][]string{
	"hostaddrs":             {"github.com/coredns/", "github.com/miekg/dns", "github.com/vishvananda/netlink"},
	"cluster":               {"github.com/coredns/", "github.com/miekg/dns", "github.com/vishvananda/netlink"},
	"plugin/clusterip/zone": {"github.com/coredns/", "github.com/vishvananda/netlink"},
	"kernelnat":             {"github.com/coredns/", "github.com/miekg/dns"},
	"kernelnat/plan":        {"os/exec", "net/http", "log", "golang.org/x/sys", "k8s.io/client-go", "github.com/vishvananda"},
	"status":                {"os/exec", "net/http", "log", "golang.org/x/sys", "k8s.io/client-go", "github.com/vishvananda", "github.com/miekg", "github.com/coredns"},
}

// pure packages only compute. They, and all of ours that they reach, must import
// nothing but the packages in computing and what excepted grants to one importer.
//
// The walk goes through our packages and ends at all others, since fmt, which every
// program has, leads to os and syscall. So the rule is about what our code can name. It
// does not see what is done with it: fmt has Print, and a pure package could call the
// Store of package cluster.
var (
	pure = []string{"preflight", "kernelnat/plan", "plugin/clusterip/zone", "plugin/clusterip/zone/addrs", "plugin/clusterip/wire", "status", "status/text", "difference"}

	// math/rand/v2 is here since it has no state that anybody waits for: zone leaves to
	// chance which part of a long list is answered.
	computing = []string{
		"cmp", "encoding/binary", "errors", "fmt", "hash/fnv", "hash/maphash", "iter", "maps", "math", "math/bits", "math/rand/v2",
		"net/netip", "slices", "sort", "strconv", "strings", "sync/atomic",
	}

	excepted = map[string][]string{
		// A Service says when it was created, and the Store, which stands between its
		// sources and those who follow it, has a lock and reads the clock once. Pure
		// packages are given the values of cluster, not a Store.
		"cluster": {"sync", "time"},
		// A status says when something was done.
		"status":      {"time"},
		"status/text": {"time", "unicode/utf8"},
		// A name is in memory that the next question overwrites.
		"plugin/clusterip/wire": {"unsafe"},
		// The records are its types. It has a client and a server beside them.
		"plugin/clusterip/zone": {"github.com/miekg/dns"},
	}
)

func TestPure(t *testing.T) {
	imports := list(t, "Imports")
	for _, pkg := range pure {
		if imports[pkg] == nil {
			t.Errorf("there is no package %s", pkg)
		}
		walk(t, imports, pkg, pkg, map[string]bool{pkg: true})
	}
}

// walk checks what a package imports, and what those of ours do that nobody has seen.
// The chain is how it was reached.
func walk(t *testing.T, imports map[string][]string, pkg, chain string, seen map[string]bool) {
	for _, path := range imports[pkg] {
		imported, ours := strings.CutPrefix(path, module)
		switch {
		case ours && !seen[imported]:
			seen[imported] = true
			walk(t, imports, imported, chain+" -> "+imported, seen)
		case !ours && !slices.Contains(computing, path) && !slices.Contains(excepted[pkg], path):
			t.Errorf("a pure package must not reach %s: %s -> %s", path, chain, path)
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
	// What `go list` reads, `go test` does not know of: the result of another day would
	// be taken for that of today. It knows of the folders that the test reads itself.
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != ".." {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
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
