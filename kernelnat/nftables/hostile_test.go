package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// restricted is a Service at a load balancer's address for clients in these ranges.
func restricted(sources ...string) plan.Service {
	p := backendtest.Port(cluster.TCP, netip.MustParseAddrPort("10.43.0.1:80"), endpointOf(1))
	o := backendtest.Outside{Verdict: plan.Forward, LoadBalancers: []netip.Addr{netip.MustParseAddr("198.51.100.1")}}
	for _, s := range sources {
		o.Sources = append(o.Sources, netip.MustParsePrefix(s))
	}
	return backendtest.Named("restricted", o.Add(p))
}

// Ranges of clients may overlap those that were there before, whether a process goes on or
// finds what another has left.
func TestSourcesThatOverlapThoseBefore(t *testing.T) {
	steps := [][]string{
		{"10.0.0.0/8"}, {"10.1.0.0/16"}, {"10.1.2.0/24", "10.1.3.0/24"}, {"10.0.0.0/8", "10.1.0.0/16"}, {"10.128.0.0/9"},
		{"0.0.0.0/1", "128.0.0.0/1"}, {"10.0.0.1/32", "10.0.0.1/32"}, {"10.0.0.0/8"},
	}
	h, b := newHost(t), newBackend(t, cluster.IPv4, settings)
	h.do(func() error { _, err := b.Sync(t.Context(), kernelnat.State{}); return err })
	var old plan.Service
	for _, sources := range steps {
		next := restricted(sources...)
		h.do(func() error { return b.Apply(t.Context(), []kernelnat.Change{{Old: old, New: next}}) })
		old = next
	}
	b.Close()
	for _, sources := range steps {
		state := kernelnat.State{Services: []plan.Service{restricted(sources...)}}
		h.synced(state, cluster.IPv4)
		if written := h.synced(state, cluster.IPv4); len(written) > 0 {
			t.Errorf("%q: a start writes %q", sources, written)
		}
	}
}

// A comment has no room for the longest names of a Service and its port. They are known again
// all the same.
func TestLongestNames(t *testing.T) {
	h := newHost(t)
	state := stateOf(cluster.IPv4)
	state.Services = state.Services[:1]
	state.Services[0].Name = cluster.ServiceName{Namespace: strings.Repeat("n", 63), Name: strings.Repeat("s", 63)}
	state.Services[0].Pools[0].Port = strings.Repeat("p", 63)
	h.synced(state, cluster.IPv4)
	if written := h.synced(state, cluster.IPv4); len(written) > 0 {
		t.Errorf("a start writes %q", written)
	}
	before := listed(h)
	h.synced(kernelnat.State{Incomplete: true, Ranges: state.Ranges}, cluster.IPv4)
	if after := listed(h); !slices.Equal(before, after) {
		t.Errorf("what is not known does not stay:\n%s", strings.Join(after, "\n"))
	}
}

// Whatever somebody has put into a table of that name, Services are served.
func TestPreparedTables(t *testing.T) {
	for _, prepared := range []string{
		"add table ip clusterip { flags dormant; }",
		"add map ip clusterip classes { type classid : verdict; elements = { * : drop } }",
		"add map ip clusterip frontends { type ipv4_addr . inet_proto . inet_service : classid; elements = { * : 1 } }",
		"add map ip clusterip frontends { type ipv4_addr . inet_proto . inet_service : classid; size 1; }",
		"add chain ip clusterip x\nadd map ip clusterip m { type inet_service : verdict; elements = { 80 : jump x } }",
		"add chain ip clusterip x\nadd map ip clusterip m { type inet_service : verdict; }\nadd rule ip clusterip x tcp dport vmap @m",
		"add set ip clusterip sources { type ipv4_addr . inet_proto . inet_service . ipv4_addr; flags interval; elements = { 198.51.100.1 . tcp . 80 . 10.0.0.1 } }",
		// A version before this one.
		"add set ip clusterip affinity { type ipv4_addr . classid; size 1048576; flags dynamic,timeout; }\n" +
			"add map ip clusterip members { type classid . inet_proto : ipv4_addr . inet_service; elements = { c200:1 . tcp : 10.42.0.110 . 8080 } }\n" +
			"add map ip clusterip slots { type ipv4_addr . inet_proto . inet_service . classid : classid; elements = { 10.43.0.11 . tcp . 80 . c100:0 : c200:1 } }\n" +
			"add chain ip clusterip search-4\nadd rule ip clusterip search-4 ip saddr . meta priority @affinity return",
		"add chain ip clusterip services { type filter hook input priority 0; policy drop; }",
		"add chain ip clusterip input { type filter hook input priority -10; policy drop; }",
		"add chain ip clusterip input { type filter hook input priority 5; policy drop; }",
		"add chain ip clusterip other { type filter hook input priority 5; policy drop; }",
	} {
		h := newHost(t)
		h.nft("add table ip clusterip\n"+prepared+"\n", "-f", "-")
		h.synced(stateOf(cluster.IPv4), cluster.IPv4)
		if written := h.synced(stateOf(cluster.IPv4), cluster.IPv4); len(written) > 0 {
			t.Errorf("%s: a start writes %q", prepared, written)
		}
		if table := strings.Join(listed(h), "\n"); strings.Contains(table, "dormant") || strings.Contains(table, "policy drop") || strings.Contains(table, "size 1\n") {
			t.Errorf("%s: the table is\n%s", prepared, table)
		}
	}
}

// A Service may have so many classes that their chains are more than the kernel takes at once.
// They come and go all the same.
func TestMoreChainsThanATransaction(t *testing.T) {
	schema := newSchema(cluster.IPv4, false)
	chains := newBatch(cluster.IPv4)
	var ports []plan.Service
	for i := range 32_000 {
		p := backendtest.Port(cluster.TCP, netip.AddrPortFrom(netip.MustParseAddr("10.43.0.1"), uint16(1+i)), endpointOf(1))
		p.Pools[0].Port, p.Pools[0].Policy = fmt.Sprint("p", i), cluster.RoundRobin
		ports = append(ports, p)
		c := schema.classChain(dialect{language: language{cluster.IPv4}}, class{slots: 1, policy: cluster.RoundRobin, turns: uint32(i)})
		chains.addChain(&c)
		if err := chains.addRules(&c); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(chains.first.buf); n < 2*sendBuffer {
		t.Fatalf("the chains are %d bytes: too few", n)
	}
	h := newHost(t)
	for _, state := range []kernelnat.State{{Services: []plan.Service{backendtest.Named("many", ports...)}}, {}} {
		h.synced(state, cluster.IPv4)
		if written := h.synced(state, cluster.IPv4); len(written) > 0 {
			t.Errorf("a start writes %q", written)
		}
	}
}
