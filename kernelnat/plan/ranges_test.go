package plan

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

var rangesTests = []struct {
	name, cidrs, known string
	want               string // each range with what is exempt; "open" if all is
	told               string // what overlaps, and "all of" which range
}{
	{"nothing else", "10.43.0.0/16", "10.42.0.0/16 192.0.2.7", "10.43.0.0/16", ""},
	{"one address", "10.43.0.0/16", "10.43.0.5", "10.43.0.0/16 10.43.0.5/32", "10.43.0.5"},
	{"a network", "10.0.0.0/8", "10.42.0.0/16", "10.0.0.0/8 10.42.0.0/16", "10.42.0.0/16"},
	{"one in another", "10.0.0.0/8", "10.42.1.0/24 10.42.0.0/16 10.42.1.7", "10.0.0.0/8 10.42.0.0/16", "10.42.1.0/24 10.42.0.0/16 10.42.1.7"},
	{"halves", "10.0.0.0/8", "10.42.1.0/24 10.42.0.0/24 10.42.2.0/23", "10.0.0.0/8 10.42.0.0/22", "10.42.1.0/24 10.42.0.0/24 10.42.2.0/23"},
	{"neighbours that are no halves", "10.0.0.0/8", "10.42.1.0/24 10.42.2.0/24", "10.0.0.0/8 10.42.1.0/24 10.42.2.0/24", "10.42.1.0/24 10.42.2.0/24"},
	{"halves of all", "10.43.0.0/16", "10.43.0.0/17 10.43.128.0/17", "10.43.0.0/16 open", "10.43.0.0/17 10.43.128.0/17"},
	{"the range itself", "10.43.0.0/16", "10.43.0.0/16", "10.43.0.0/16 open", "all of 10.43.0.0/16"},
	{"around it", "10.43.0.0/16", "10.0.0.0/8", "10.43.0.0/16 open", "all of 10.0.0.0/8"},
	{"two ranges", "10.43.0.0/16 10.44.0.0/16", "10.43.0.0/16 10.44.0.1", "10.43.0.0/16 open, 10.44.0.0/16 10.44.0.1/32", "all of 10.43.0.0/16 10.44.0.1"},
	{"another family", "fd00:10:43::/112 10.43.0.0/16", "fd00:10:43::7 10.43.0.7", "10.43.0.0/16 10.43.0.7/32", "10.43.0.7"},
	{"everything", "0.0.0.0/0", "", "0.0.0.0/0 open", "all of too large"},
	{"larger than a private network", "32.0.0.0/7", "", "32.0.0.0/7 open", "all of too large"},
	{"a private network", "10.0.0.0/8", "", "10.0.0.0/8", ""},
	{"loopback", "127.0.0.0/8", "", "127.0.0.0/8 open", "all of loopback addresses"},
	{"link-local", "169.254.0.0/16", "", "169.254.0.0/16 open", "all of link-local addresses"},
	{"metadata", "169.254.169.254/32", "", "169.254.169.254/32 open", "all of link-local addresses"},
	{"multicast", "224.0.0.0/24", "", "224.0.0.0/24 open", "all of multicast and reserved addresses"},
	{"broadcast", "255.255.255.0/24", "", "255.255.255.0/24 open", "all of multicast and reserved addresses"},
	{"this host", "0.0.0.0/24", "", "0.0.0.0/24 open", "all of addresses of this host (0.0.0.0/8)"},
	{"everything IPv6", "::/0", "", "::/0 open", "all of too large"},
	{"loopback IPv6", "::1/128", "", "::1/128 open", "all of loopback and mapped addresses"},
	{"link-local IPv6", "fe80::/64", "", "fe80::/64 open", "all of link-local addresses"},
	{"multicast IPv6", "ff02::/112", "", "ff02::/112 open", "all of multicast addresses"},
	{"mapped", "::ffff:10.43.0.0/112", "", "::ffff:10.43.0.0/112 open", "all of loopback and mapped addresses"},
	{"the pods IPv6", "fd00:10::/32", "fd00:10:42::/64", "fd00:10::/32 fd00:10:42::/64", "fd00:10:42::/64"},
}

func TestRanges(t *testing.T) {
	for _, tt := range rangesTests {
		t.Run(tt.name, func(t *testing.T) {
			var cidrs []netip.Prefix
			for text := range strings.FieldsSeq(tt.cidrs) {
				cidrs = append(cidrs, netip.MustParsePrefix(text))
			}
			family := cluster.FamilyOf(netip.MustParsePrefix(strings.Fields(tt.want)[0]).Addr())
			ranges, overlaps := Ranges(cidrs, family, knownFrom(tt.known))
			var got []string
			for _, r := range ranges {
				words := []string{r.CIDR.String()}
				for _, e := range r.Exempt {
					words = append(words, e.String())
				}
				if r.Open {
					words = append(words, "open")
				}
				got = append(got, strings.Join(words, " "))
			}
			if text := strings.Join(got, ", "); text != tt.want {
				t.Errorf("got %q, want %q", text, tt.want)
			}
			var told []string
			for _, o := range overlaps {
				what := o.What
				if strings.Contains(what, "larger than") {
					what = "too large"
				}
				if o.Whole {
					what = "all of " + what
				}
				told = append(told, what)
			}
			if text := strings.Join(told, " "); text != tt.told {
				t.Errorf("told %q, want %q", text, tt.told)
			}
		})
	}
}

// knownFrom makes things that are called as their addresses are.
func knownFrom(text string) []Known {
	var all []Known
	for word := range strings.FieldsSeq(text) {
		if addr, err := netip.ParseAddr(word); err == nil {
			all = append(all, KnownAt(addr, word))
		} else {
			all = append(all, Known{netip.MustParsePrefix(word), word})
		}
	}
	return all
}

// What has one name is told once, with whether any of it is all of the range, and what
// has none is not told.
func TestOverlapsAreToldOnce(t *testing.T) {
	cidr := netip.MustParsePrefix("10.43.0.0/16")
	known := []Known{
		KnownAt(netip.MustParseAddr("10.43.0.9"), "nodes"), KnownAt(netip.MustParseAddr("10.43.0.8"), ""),
		{netip.MustParsePrefix("10.0.0.0/8"), "nodes"}, KnownAt(netip.MustParseAddr("::ffff:10.43.0.7"), "endpoints"),
	}
	_, overlaps := Ranges([]netip.Prefix{cidr}, cluster.IPv4, known)
	want := []Overlap{{cidr, "nodes", netip.MustParsePrefix("10.43.0.9/32"), true}, {cidr, "endpoints", netip.MustParsePrefix("10.43.0.7/32"), false}}
	if !slices.Equal(overlaps, want) {
		t.Errorf("got %+v, want %+v", overlaps, want)
	}
	if text := overlaps[1].String(); !strings.Contains(text, "10.43.0.0/16 overlaps endpoints, such as 10.43.0.7/32") {
		t.Error(text)
	}
	if text := overlaps[0].String(); !strings.Contains(text, "10.43.0.0/16 overlaps nodes: nothing in it is refused") {
		t.Error(text)
	}
}

// As many parts are exempt as there may be, and with one more the range is open.
func TestMaxExempt(t *testing.T) {
	for n, open := range map[int]bool{MaxExempt: false, MaxExempt + 1: true} {
		var known []Known
		for i := range n {
			known = append(known, KnownAt(netip.MustParseAddr(fmt.Sprintf("10.43.%d.1", i)), "pods"))
		}
		ranges, overlaps := Ranges([]netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}, cluster.IPv4, known)
		if ranges[0].Open != open || len(ranges[0].Exempt) != map[bool]int{false: n}[open] || len(overlaps) != map[bool]int{false: 1, true: 2}[open] {
			t.Errorf("%d: %+v, told %v", n, ranges[0], overlaps)
		}
	}
}

// What is nobody's is what nothing that is known holds, however that is cut up.
func TestNobodysRandomly(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 43, 0, 0}), 24)
		var known []Known
		for range r.IntN(30) {
			at := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 43, 0, byte(r.IntN(256))}), 25+r.IntN(8))
			known = append(known, Known{at, "something"}) // with bits of the host, as people write them
		}
		ranges, _ := Ranges([]netip.Prefix{cidr}, cluster.IPv4, known)
		for last := range 256 {
			a := netip.AddrFrom4([4]byte{10, 43, 0, byte(last)})
			want := !slices.ContainsFunc(known, func(k Known) bool { return k.At.Contains(a) })
			if got := ranges[0].Nobodys(a); got != want {
				t.Fatalf("seed %d: %s is nobody's: %t, want %t; %v in %v", seed, a, got, want, known, ranges)
			}
		}
		if ranges[0].Nobodys(netip.MustParseAddr("10.43.1.0")) {
			t.Error("an address outside the range")
		}
	}
}
