package conntrack

import (
	"net/netip"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

func terminates(s plan.Service, endpoint string) plan.Service {
	s = draining(s, endpoint)
	s.Pools[0].Terminating = s.Pools[0].Draining
	return s
}

func TestDrainingLooks(t *testing.T) {
	const a, b, c = "10.42.0.1:53", "10.42.0.2:53", "10.42.0.3:53"
	tests := []struct {
		name     string
		old, new plan.Service
		want     bool
	}{
		{"begins to terminate", dns(a, b), terminates(dns(b), a), true},
		{"another begins", terminates(dns(b), a), terminates(dns(b), c), true},
		{"serves others than this node", dns(a, b), draining(dns(b), a), false},
		{"still terminates", terminates(dns(b), a), terminates(dns(b, c), a), false},
		{"SCTP", service("sctp", cluster.SCTP, a), terminates(service("sctp", cluster.SCTP, b), a), false},
		{"TCP", service("web", cluster.TCP, a), terminates(service("web", cluster.TCP, b), a), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var d Draining
			d.Changed([]plan.Change{{Old: none(tt.old.Name.Name), New: tt.old}})
			d.looked(d.next, false)
			d.Changed([]plan.Change{{Old: tt.old, New: tt.new}})
			if _, due := d.Next(); due != tt.want {
				t.Errorf("a look is due: %t, want %t", due, tt.want)
			}
		})
	}
}

// Looks are repeated as long as flows are left, ever more seldom, and end when the
// endpoint has gone.
func TestDrainingLooksAgain(t *testing.T) {
	var d Draining
	leaving := terminates(dns("10.42.0.2:53"), "10.42.0.1:53")
	d.Changed([]plan.Change{{Old: dns("10.42.0.1:53", "10.42.0.2:53"), New: leaving}})
	left := func() time.Duration {
		t.Helper()
		d.looked(d.next, true)
		at, due := d.Next()
		if !due {
			t.Fatal("flows are left, and no look is due")
		}
		return time.Until(at)
	}
	if wait := left(); wait > firstLook || wait < firstLook/2 {
		t.Errorf("the second look is after %v, want %v", wait, firstLook)
	}
	d.began = d.began.Add(-time.Hour)
	if wait := left(); wait < 29*time.Minute {
		t.Errorf("after an hour, the next look is after %v, want half an hour", wait)
	}
	d.Changed([]plan.Change{{Old: leaving, New: dns("10.42.0.2:53")}})
	if _, due := d.Next(); due {
		t.Error("no endpoint terminates, and a look is due")
	}
}

func TestDrainingFlows(t *testing.T) {
	const a, b = "10.42.0.1:53", "10.42.0.2:53"
	var d Draining
	d.Changed([]plan.Change{{Old: dns(a, b), New: terminates(dns(b), a)}})
	look := func(to, repliedBy string) (stale, waning bool) {
		f := filter{new(Stale), nil, &d, nil}
		return f.MatchConntrackFlow(flow(17, to, repliedBy)), len(f.waning) > 0
	}
	for _, tt := range []struct {
		to, repliedBy string
		waning        bool
	}{{dnsIP, a, true}, {dnsIP, b, false}, {"10.43.0.11:53", a, false}} {
		if stale, waning := look(tt.to, tt.repliedBy); stale || waning != tt.waning {
			t.Errorf("flow to %s at %s: stale %t, to expire %t, want %t", tt.to, tt.repliedBy, stale, waning, tt.waning)
		}
	}
	d.looked(d.next, false)
	d.Abandon([]netip.AddrPort{netip.MustParseAddrPort(a), netip.MustParseAddrPort(b)})
	if _, due := d.Next(); !due {
		t.Error("an endpoint is given up, and no look is due")
	}
	if stale, _ := look(dnsIP, a); !stale {
		t.Error("a flow to an endpoint that is given up stays")
	}
	if stale, _ := look(dnsIP, b); stale {
		t.Error("a flow to an endpoint that gets new ones is stale")
	}
}
