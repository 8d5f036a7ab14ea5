package manifest

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/allocator"
)

const (
	givenWeb = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
	givenDNS = "apiVersion: v1\nkind: Service\nmetadata: {name: dns}\nspec: {clusterIP: 10.96.0.10, ports: [{port: 53}]}\n"
	givenSix = "apiVersion: v1\nkind: Service\nmetadata: {name: six}\nspec: {clusterIP: 'fd00:96::5', ports: [{port: 53}]}\n"
	givenPod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {podIPs: [{ip: 10.42.0.7}], conditions: [{type: Ready, status: 'True'}]}\n"
)

// given writes files and returns their folder.
func given(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// addressesOf are the ClusterIPs in an Update, by the names of Services.
func addressesOf(u cluster.Update) map[string]string {
	out := make(map[string]string)
	for _, s := range u.Services {
		var all []string
		for _, ip := range s.Service.ClusterIPs {
			all = append(all, ip.String())
		}
		out[s.Name.Name] = strings.Join(all, " ")
	}
	return out
}

func TestGiven(t *testing.T) {
	dir := given(t, map[string]string{"a/web.yaml": givenWeb, "a/notes.txt": "not read", "dns.export": givenDNS, "six.yaml": givenSix, "bad.yaml": "kind: [\n"})
	at := func(name string) string { return filepath.Join(dir, name) }
	standard := netip.MustParsePrefix("10.43.0.0/16")
	hashed := addressesOf(readGivens(t, Given{Paths: []string{at("a")}}, "").Update)["web"]
	if hashed == "" {
		t.Fatal("a Service has no address")
	}
	for _, c := range []struct {
		name   string
		given  Given
		stdin  string
		want   map[string]string // "*": any
		cidrs  string
		fitted bool
		errors []string
	}{
		{name: "a folder", given: Given{Paths: []string{at("a")}}, want: map[string]string{"web": hashed}, cidrs: "10.43.0.0/16"},
		{name: "a file of any name, of another range", given: Given{Paths: []string{at("dns.export")}, Fit: true}, want: map[string]string{"dns": "10.96.0.10"}, cidrs: "10.96.0.0/16", fitted: true},
		{
			name: "of another range, which the configuration says", given: Given{Paths: []string{at("dns.export")}, ServiceCIDRs: []netip.Prefix{standard}},
			want: map[string]string{"dns": ""}, cidrs: "10.43.0.0/16", errors: []string{"dns.export:1: Service default/dns: spec.clusterIP 10.96.0.10 is outside"},
		},
		{name: "of another family", given: Given{Paths: []string{at("six.yaml")}, Fit: true}, want: map[string]string{"six": "fd00:96::5"}, cidrs: "10.43.0.0/16 fd00:96::/112", fitted: true},
		{
			name: "of several ranges", given: Given{Paths: []string{at("six.yaml"), at("dns.export"), at("a")}, Fit: true},
			want: map[string]string{"six": "fd00:96::5", "dns": "10.96.0.10", "web": hashed}, cidrs: "10.43.0.0/16 10.96.0.0/16 fd00:96::/112", fitted: true,
		},
		{name: "the standard input", given: Given{Paths: []string{Stdin, at("a")}}, stdin: givenPod + "---\n" + strings.Replace(givenWeb, "web", "more", 1), want: map[string]string{"more": "*", "web": hashed}, cidrs: "10.43.0.0/16"},
		{name: "one path twice", given: Given{Paths: []string{at("a"), at("a/web.yaml"), at("a") + "/./web.yaml"}}, want: map[string]string{"web": hashed}, cidrs: "10.43.0.0/16"},
		{
			name: "one object twice", given: Given{Paths: []string{at("a"), Stdin}}, stdin: givenWeb, want: map[string]string{"web": hashed}, cidrs: "10.43.0.0/16",
			errors: []string{"stdin:1: Service default/web: this object is also in " + at("a/web.yaml") + ":1"},
		},
		{name: "a held address", given: Given{Paths: []string{at("a")}, Held: allocator.Allocations{{Namespace: "default", Name: "web"}: {netip.MustParseAddr("10.43.9.9")}}}, want: map[string]string{"web": "10.43.9.9"}, cidrs: "10.43.0.0/16"},
		{name: "a held address of another range", given: Given{Paths: []string{at("a")}, Fit: true, Held: allocator.Allocations{{Namespace: "default", Name: "web"}: {netip.MustParseAddr("10.96.9.9")}}}, want: map[string]string{"web": "10.96.9.9"}, cidrs: "10.43.0.0/16 10.96.0.0/16", fitted: true},
		{name: "of a dry run", given: Given{Paths: []string{Stdin}, Fit: true}, stdin: strings.Replace(givenDNS, "10.96.0.10", "10.96.0.0", 1), want: map[string]string{"dns": "*"}, cidrs: "10.96.0.0/16", fitted: true},
		{name: "a text that is none", given: Given{Paths: []string{at("a"), at("bad.yaml")}}, want: map[string]string{"web": hashed}, cidrs: "10.43.0.0/16", errors: []string{at("bad.yaml") + ":"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := readGivens(t, c.given, c.stdin)
			addresses := addressesOf(got.Update)
			for name, want := range c.want {
				if have, there := addresses[name]; !there || want == "*" && have == "" || want != "*" && have != want {
					t.Errorf("Service %s has %q, want %q", name, have, want)
				}
			}
			if len(addresses) != len(c.want) {
				t.Errorf("there are %v", addresses)
			}
			var cidrs []string
			for _, cidr := range got.Update.ServiceCIDRs {
				cidrs = append(cidrs, cidr.String())
			}
			if text := strings.Join(cidrs, " "); text != c.cidrs || got.Fitted != c.fitted {
				t.Errorf("the ranges are %s (fitted: %t), want %s (%t)", text, got.Fitted, c.cidrs, c.fitted)
			}
			var errs []string
			for _, p := range got.Problems {
				if p.Severity == Error {
					errs = append(errs, p.Error())
				}
			}
			if len(errs) != len(c.errors) || !slices.EqualFunc(errs, c.errors, strings.Contains) {
				t.Errorf("the errors are %q, want %q", errs, c.errors)
			}
		})
	}
}

func readGivens(t *testing.T, g Given, stdin string) Reading {
	t.Helper()
	got, err := g.Read(strings.NewReader(stdin))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// What a server has left beside a folder says which address a Service has. Reading writes
// nothing.
func TestGivenState(t *testing.T) {
	dir := given(t, map[string]string{"web.yaml": givenWeb})
	state := Options{Dir: dir}.StateFile()
	held := allocator.State{
		Held:  allocator.Allocations{{Namespace: "default", Name: "web"}: {netip.MustParseAddr("10.43.9.9")}},
		Files: map[cluster.ServiceName]string{{Namespace: "default", Name: "web"}: "web.yaml"},
	}
	if err := allocator.WriteState(state, held); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	if got := addressesOf(readGivens(t, Given{Paths: []string{dir}, State: state}, "").Update)["web"]; got != "10.43.9.9" {
		t.Errorf("the Service has %s", got)
	}
	if after, err := os.ReadFile(state); err != nil || string(after) != string(before) {
		t.Errorf("the state file is %q (%v), and was %q", after, err, before)
	}
}

func TestGivenCannotBeRead(t *testing.T) {
	dir := given(t, map[string]string{"web.yaml": givenWeb})
	for path, want := range map[string]string{
		filepath.Join(dir, "nosuch"):       "no such file or directory: give files and folders that exist",
		filepath.Join(dir, "web.yaml/sub"): "not a directory: give files and folders that exist",
	} {
		_, err := Given{Paths: []string{dir, path}}.Read(nil)
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
