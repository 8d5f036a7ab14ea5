package addrs

import (
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// A reverse name is the one that miekg/dns makes, and each part of it at the end is the
// network of that many bits.
func TestReverse(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	for range 1000 {
		ip := someAddress(r)
		name := ReverseName(ip)
		if want, err := dns.ReverseAddr(ip.String()); err != nil || name != want {
			t.Fatalf("the reverse name of %s is %s, want %s", ip, name, want)
		}
		bits, root := ip.BitLen(), Reverse6
		if ip.Is4() {
			root = Reverse4
		}
		for ; name != root; _, name, _ = strings.Cut(name, ".") {
			want := netip.PrefixFrom(ip, bits).Masked()
			if got, ok := ParseReverse(name); !ok || got != want {
				t.Fatalf("%s is %s, want %s", name, got, want)
			}
			bits -= 4
			if ip.Is4() {
				bits -= 4
			}
		}
	}
	for _, name := range []string{
		Reverse4, Reverse6, "arpa.", "." + Reverse4, "1..10." + Reverse4, "01." + Reverse4, "256." + Reverse4, "1000." + Reverse4,
		"5.4.3.2.1." + Reverse4, "-1." + Reverse4, "a." + Reverse4, "10." + Reverse6, "g." + Reverse6, "A." + Reverse6,
		strings.Repeat("0.", 33) + Reverse6, "1.in-addr.arpa", "1.example.",
	} {
		if got, ok := ParseReverse(name); ok {
			t.Errorf("%q is %s, want none", name, got)
		}
	}
}

func TestDashed(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	for range 1000 {
		ip := someAddress(r)
		label := string(AppendDashed(nil, ip))
		if got, ok := ParseDashed(label); !ok || got != ip || strings.HasSuffix(label, "-") {
			t.Fatalf("%s is %q, which is %s", ip, label, got)
		}
	}
	for label, want := range map[string]string{
		"10-0-0-1": "10.0.0.1", "2001-db8--0": "2001:db8::", "2001-db8--": "2001:db8::", "fd00--0007": "fd00::7", "--1": "::1",
		"": "", "10-0-0": "", "10-0-0-1-2": "", "10-0-0-256": "", "10-0-0-01": "", "web": "", "10.0.0.1": "", "fd00--g": "", "--ffff-1": "::ffff:1",
	} {
		got, ok := ParseDashed(label)
		if ok != (want != "") || ok && got != netip.MustParseAddr(want) {
			t.Errorf("%q is %s, %t, want %q", label, got, ok, want)
		}
	}
	if got := string(AppendDashed(nil, netip.MustParseAddr("2001:db8::"))); got != "2001-db8--0" {
		t.Errorf("2001:db8:: is %q", got)
	}
}
