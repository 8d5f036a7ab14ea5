package allocator

import (
	"net/netip"
	"testing"
)

// The figures are those of kube-apiserver (KEP-3070).
func TestRangeBands(t *testing.T) {
	for _, test := range []struct {
		cidr         string
		size, static uint64
		firstDynamic string
		last         string
	}{
		{"10.43.0.0/16", 65534, 256, "10.43.1.1", "10.43.255.254"},
		{"10.0.0.0/12", 1<<20 - 2, 256, "10.0.1.1", "10.15.255.254"},
		{"10.0.0.0/20", 4094, 256, "10.0.1.1", "10.0.15.254"},
		{"10.0.0.0/21", 2046, 128, "10.0.0.129", "10.0.7.254"},
		{"10.0.0.0/24", 254, 16, "10.0.0.17", "10.0.0.254"},
		{"10.0.0.0/27", 30, 16, "10.0.0.17", "10.0.0.30"},
		{"10.0.0.0/28", 14, 0, "10.0.0.1", "10.0.0.14"},
		{"10.0.0.0/30", 2, 0, "10.0.0.1", "10.0.0.2"},
		{"0.0.0.0/0", 1<<32 - 2, 256, "0.0.1.1", "255.255.255.254"},
		{"10.0.0.77/24", 254, 16, "10.0.0.17", "10.0.0.254"},
		{"fd00::/108", 1<<20 - 1, 256, "fd00::101", "fd00::f:ffff"},
		{"fd00::/120", 255, 16, "fd00::11", "fd00::ff"},
		{"fd00::/127", 1, 0, "fd00::1", "fd00::1"},
		{"fd00:0:0:7::/64", 1<<64 - 2, 256, "fd00:0:0:7::101", "fd00::7:ffff:ffff:ffff:fffe"},
	} {
		t.Run(test.cidr, func(t *testing.T) {
			r, err := newRange(netip.MustParsePrefix(test.cidr))
			if err != nil {
				t.Fatal(err)
			}
			if r.size != test.size || r.static != test.static {
				t.Errorf("size %d, static %d; want %d, %d", r.size, r.static, test.size, test.static)
			}
			for number, want := range map[uint64]string{0: r.prefix.Addr().Next().String(), r.static: test.firstDynamic, r.size - 1: test.last} {
				addr := r.at(number)
				if addr.String() != want {
					t.Errorf("number %d is %s, want %s", number, addr, want)
				}
				if back, usable := r.index(addr); !usable || back != number {
					t.Errorf("index(%s) = %d, %t; want %d", addr, back, usable, number)
				}
			}
			for _, addr := range []netip.Addr{r.prefix.Addr(), r.prefix.Addr().Prev(), r.at(r.size - 1).Next()} {
				if number, usable := r.index(addr); usable {
					t.Errorf("index(%s) = %d, want not usable", addr, number)
				}
			}
		})
	}
}
