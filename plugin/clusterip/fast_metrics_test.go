package clusterip

import (
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
)

// TestKindsAreFew asks for every type there is: what is kept of that must not grow with
// what clients think up.
func TestKindsAreFew(t *testing.T) {
	l, from := &lane{handler: testHandler(), meter: &meter{server: "dns://:53"}}, netip.MustParseAddrPort("192.0.2.1:1024")
	var counted tally
	for qtype := range 1 << 16 {
		counted.add(l, &wire.Question{Name: "web.default.svc.cluster.local.", Type: uint16(qtype)}, from, zone.NoData, 40, 90)
		counted.flush(0)
	}
	for _, s := range counted.series {
		if n := len(s.requests); n > 20 {
			t.Errorf("%d kinds of requests are kept", n)
		}
	}
}
