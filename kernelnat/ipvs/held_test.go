package ipvs

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

const listed = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0586300:0001 rr  
  -> 0A2A013F:162E      Masq    1      0          0         
  -> 0A2A0031:162E      Masq    3      2          10        
UDP  C05863FF:FFFF wlc  
TCP  0A2B0001:0050 rr persistent 10800 FFFFFFFF
  -> 0A2A0031:162E      Masq    1      0          0         
TCP  [0100:0000:0000:0001:0000:0000:0000:0000]:0001 mh 
  -> [fd00:0010:0042:0000:0000:0000:0000:0049]:162E      Masq    1      0          0         
FWM  00000007 rr 
  -> 0A2A0031:0000      Route   1      0          0         
`

// parseHeld returns all virtual servers of a range.
func parseHeld(text string, within netip.Prefix) (map[id]server, error) {
	held := make(map[id]server)
	err := parseEach(strings.NewReader(text), within, func(s *server) bool {
		held[s.id] = server{s.id, s.scheduler, slices.Clone(s.reals)}
		return true
	})
	return held, err
}

func TestParseHeld(t *testing.T) {
	for _, c := range []struct {
		family cluster.Family
		want   []server
	}{
		{cluster.IPv4, []server{
			{id{netip.MustParseAddrPort("192.88.99.0:1"), cluster.TCP}, "rr", []real{{netip.MustParseAddrPort("10.42.0.49:5678"), 3}, {netip.MustParseAddrPort("10.42.1.63:5678"), 1}}},
			{id{netip.MustParseAddrPort("192.88.99.255:65535"), cluster.UDP}, "wlc", nil},
		}},
		{cluster.IPv6, []server{
			{id{netip.MustParseAddrPort("[100:0:0:1::]:1"), cluster.TCP}, "mh", []real{{netip.MustParseAddrPort("[fd00:10:42::49]:5678"), 1}}},
		}},
	} {
		held, err := parseHeld(listed, ranges[c.family])
		if err != nil {
			t.Fatal(err)
		}
		if len(held) != len(c.want) {
			t.Errorf("%s: %d virtual servers, want %d", c.family, len(held), len(c.want))
		}
		for _, w := range c.want {
			if got := held[w.id]; !got.equal(&w) {
				t.Errorf("%s: %v, want %v", c.family, got, w)
			}
		}
	}
}

// What is missing, what is more, before or after the others, and what is otherwise is noticed.
func TestComparison(t *testing.T) {
	const first, second = "TCP  C0586300:0001 rr\n  -> 0A2A0031:162E      Masq    1      0          0\n", "UDP  C0586300:0002 lc\n"
	same := func(text string) bool {
		held, err := parseHeld(first+second, ranges[cluster.IPv4])
		if err != nil || len(held) != 2 {
			t.Fatalf("%v, %v", held, err)
		}
		c := comparison{all: make(map[id]*server)}
		for of, s := range held {
			c.all[of] = &s
		}
		if err := parseEach(strings.NewReader(text), ranges[cluster.IPv4], c.see); err != nil {
			t.Fatal(err)
		}
		return c.equal()
	}
	for text, want := range map[string]bool{
		first + second: true, second + first: true, first: false, "": false,
		first + second + "TCP  C0586300:0003 rr\n": false, "TCP  C0586300:0003 rr\n" + first + second: false,
		strings.Replace(first, "Masq    1", "Masq    2", 1) + second: false, first + strings.Replace(second, "lc", "rr", 1): false,
	} {
		if same(text) != want {
			t.Errorf("%q: %t, want %t", text, !want, want)
		}
	}
}

func TestParseHeldOfAnotherFormat(t *testing.T) {
	_, err := parseHeld("TCP  C0586300:0001 rr\n  -> pod-a:80 Masq 1\n", ranges[cluster.IPv4])
	if err == nil || !strings.Contains(err.Error(), "pod-a:80") {
		t.Errorf("%v, want the line", err)
	}
}

func FuzzParseHeld(f *testing.F) {
	f.Add(listed)
	f.Add("TCP  [100::0001]:0001 rr\n  -> C0586300:0001 x 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		for family, within := range ranges {
			held, err := parseHeld(text, within)
			if err != nil {
				continue
			}
			for of, s := range held {
				if s.id != of || !within.Contains(of.at.Addr()) || cluster.FamilyOf(of.at.Addr()) != family || !slices.IsSortedFunc(s.reals, compareReals) {
					t.Errorf("%v is %v", of, s)
				}
			}
		}
	})
}
