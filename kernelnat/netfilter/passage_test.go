package netfilter

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
)

// What drops what is forwarded or comes in is found beside few chains and, where iptables has the rules of Services, very many.
func TestFindDrops(t *testing.T) {
	h := newHost(t)
	look := func() (all []string) {
		t.Helper()
		h.do(t, func() error {
			drops, err := FindDrops(cluster.IPv4)
			all = slices.Concat(drops.Forward, drops.Input)
			return err
		})
		return all
	}
	if got := look(); len(got) > 0 {
		t.Errorf("without chains: %q", got)
	}
	h.nft(t, "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; }; chain INPUT { type filter hook input priority 0; policy drop; }; }; "+
		"table inet firewall { chain forwarded { type filter hook forward priority 0; policy drop; }; chain other { type filter hook forward priority 1; policy accept; }; }")
	want := []string{"chain FORWARD of table ip filter", "chain forwarded of table inet firewall", "chain INPUT of table ip filter"}
	if got := look(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	var many strings.Builder
	many.WriteString("table ip nat {\n")
	for i := range manyChains + 1 {
		fmt.Fprintf(&many, "chain KUBE-SEP-%d {\n}\n", i)
	}
	h.nft(t, many.String()+"}")
	if got := look(); !slices.Equal(got, want) {
		t.Errorf("beside many chains: %q, want %q", got, want)
	}
	h.nft(t, "delete table ip filter")
	if got := look(); !slices.Equal(got, want[1:2]) {
		t.Errorf("without the chain of iptables: %q, want %q", got, want[1:2])
	}
}

// Of endpoints at this machine's own addresses those are told where nobody listens, whatever else they are.
func TestSilent(t *testing.T) {
	h := newHost(t)
	h.do(t, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		for _, listen := range [][2]string{{"tcp", "127.0.0.1:81"}, {"tcp4", "0.0.0.0:82"}, {"tcp", "[::]:83"}, {"tcp", "[::1]:84"}} {
			l, err := net.Listen(listen[0], listen[1])
			if err != nil {
				return err
			}
			defer l.Close()
		}
		u, err := net.ListenPacket("udp", "127.0.0.1:81")
		if err != nil {
			return err
		}
		defer u.Close()
		var asked, want []plan.Key
		for _, at := range []struct {
			endpoint string
			protocol cluster.Protocol
			silent   bool
		}{
			{"127.0.0.1:81", cluster.TCP, false}, {"127.0.0.1:81", cluster.UDP, false}, {"127.0.0.1:82", cluster.TCP, false}, {"127.0.0.1:83", cluster.TCP, false},
			{"[::1]:83", cluster.TCP, false}, {"[::1]:84", cluster.TCP, false}, {"192.0.2.1:81", cluster.TCP, false}, {"127.0.0.1:85", cluster.SCTP, false},
			{"127.0.0.1:84", cluster.TCP, true}, {"[::1]:81", cluster.TCP, true}, {"[::1]:82", cluster.TCP, true}, {"127.0.0.1:82", cluster.UDP, true}, {"127.0.0.1:82", cluster.UDP, true},
		} {
			e := plan.Key{At: netip.MustParseAddrPort(at.endpoint), Protocol: at.protocol}
			if asked = append(asked, e); at.silent && !slices.Contains(want, e) {
				want = append(want, e)
			}
		}
		got, err := Silent(asked)
		if !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		return err
	})
}
