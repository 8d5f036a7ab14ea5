package plan_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// occupied reads "10.43.0.9/32 Node worker", several with commas between.
func occupied(text string) (out []cluster.Occupied) {
	for one := range strings.SplitSeq(text, ", ") {
		if prefix, by, ok := strings.Cut(one, " "); ok {
			out = append(out, cluster.Occupied{Prefix: netip.MustParsePrefix(prefix), By: by})
		}
	}
	return out
}

func TestRefuse(t *testing.T) {
	var many []string
	for i := range 65 {
		many = append(many, fmt.Sprintf("10.43.1.%d/32 an endpoint", i))
	}
	for _, c := range []struct {
		name, ranges, occupied string
		refused                string // "range but part part"; "" for nothing
		told                   []string
	}{
		{name: "nothing is known", ranges: "10.43.0.0/16", refused: "10.43.0.0/16"},
		{name: "others are elsewhere", ranges: "10.43.0.0/16", occupied: "10.42.0.0/16 pods, 192.0.2.1/32 Node a", refused: "10.43.0.0/16"},
		{name: "a Node in the range", ranges: "192.0.2.0/24", occupied: "192.0.2.9/32 Node a, 192.0.2.7/32 the API server",
			refused: "192.0.2.0/24 but 192.0.2.7/32 192.0.2.9/32", told: []string{"overlaps 192.0.2.9/32, Node a", "overlaps 192.0.2.7/32, the API server"}},
		{name: "what is inside another part is left out with it", ranges: "10.43.0.0/16", occupied: "10.43.8.0/24 a network, 10.43.8.9/32 Node a, 10.43.9.0/24 a network",
			refused: "10.43.0.0/16 but 10.43.8.0/24 10.43.9.0/24", told: []string{"Node a"}},
		{name: "the range is inside the pods'", ranges: "10.43.0.0/16, 10.96.0.0/16", occupied: "10.42.0.0/15 pods",
			refused: "10.96.0.0/16", told: []string{"overlaps 10.42.0.0/15, pods, so nothing in the range is refused"}},
		{name: "too many parts", ranges: "10.43.0.0/16", occupied: strings.Join(many, ", "), told: []string{"more than 64"}},
		{name: "everything", ranges: "0.0.0.0/0, ::/0", told: []string{"wider than /8", "wider than /48"}},
		{name: "loopback and link-local", ranges: "127.0.0.0/16, 169.254.0.0/16, fe80::/64, 240.0.0.0/16", told: []string{"loopback", "link-local", "reserved"}},
		{name: "both families", ranges: "10.43.0.0/16, fd00:10:43::/112", occupied: "fd00:10:43::9/128 Node a, 10.43.0.9/32 Node a",
			refused: "10.43.0.0/16 but 10.43.0.9/32, fd00:10:43::/112 but fd00:10:43::9/128", told: []string{"fd00:10:43::9/128"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var ranges []netip.Prefix
			for r := range strings.SplitSeq(c.ranges, ", ") {
				ranges = append(ranges, netip.MustParsePrefix(r))
			}
			refused, overlaps := plan.Refuse(ranges, occupied(c.occupied))
			var got []string
			for _, r := range refused {
				text := r.Prefix.String()
				if len(r.But) > 0 {
					text += " but " + strings.Trim(fmt.Sprint(r.But), "[]")
				}
				got = append(got, text)
			}
			if text := strings.Join(got, ", "); text != c.refused {
				t.Errorf("refused %q, want %q", text, c.refused)
			}
			told := fmt.Sprint(overlaps)
			for _, want := range c.told {
				if !strings.Contains(told, want) {
					t.Errorf("told %s, want %q in it", told, want)
				}
			}
			if c.told == nil && len(overlaps) > 0 {
				t.Errorf("told %s", told)
			}
		})
	}
}

func TestRangeContains(t *testing.T) {
	r := plan.Range{Prefix: netip.MustParsePrefix("10.43.0.0/16"), But: []netip.Prefix{netip.MustParsePrefix("10.43.8.0/24")}}
	for text, want := range map[string]bool{"10.43.0.1": true, "10.43.8.1": false, "10.44.0.1": false} {
		if r.Contains(netip.MustParseAddr(text)) != want {
			t.Errorf("%s: want %t", text, want)
		}
	}
}
