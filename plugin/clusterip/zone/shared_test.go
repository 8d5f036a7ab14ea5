package zone

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// atOneAddress has so many headless Services whose only endpoint is the same, in no
// order.
func atOneAddress(n int) (u cluster.Update) {
	for i := range n {
		s := cluster.Service{Name: cluster.ServiceName{Namespace: "shop", Name: fmt.Sprintf("svc-%05d", (i*7919)%n)}, Kind: cluster.KindHeadless}
		made := cluster.New(s, []cluster.Endpoint{{Addr: netip.MustParseAddr("10.42.0.1"), Ready: true, Serving: true}})
		u.Services = append(u.Services, cluster.ServiceUpdate{Name: made.Name, Service: made})
	}
	return u
}

// A first load of Services that share an address allocates in proportion to their
// number, and the address leads to all of them.
func TestSharedAddress(t *testing.T) {
	load := func(n int) (x *Index, allocated uint64) {
		u := atOneAddress(n)
		x = New([]string{"cluster.local.", "in-addr.arpa."}, Options{})
		return x, allocatedBy(func() { x.Apply(u) })
	}
	_, few := load(1000)
	x, many := load(4000)
	if many > 8*few {
		t.Errorf("1,000 Services allocate %d bytes, 4,000 %d", few, many)
	}
	if found := x.Match("1.0.42.10.in-addr.arpa.").Lookup("1.0.42.10.in-addr.arpa.", dns.TypePTR, 1).Answer; len(found) != 4000 {
		t.Errorf("the address leads to %d Services", len(found))
	}
}

// Where zones are transferred, what an address leads to is compared once an Update,
// not once for each Service that leaves it.
func TestSharedAddressTracked(t *testing.T) {
	leave := func(n int) (changes []Change, allocated uint64) {
		come := atOneAddress(n)
		var gone cluster.Update
		for _, u := range come.Services {
			gone.Services = append(gone.Services, cluster.ServiceUpdate{Name: u.Name})
		}
		x := New([]string{"in-addr.arpa.", "cluster.local."}, Options{})
		x.Apply(come)
		x.Track()
		allocated = allocatedBy(func() { changes = x.Apply(gone) })
		return changes, allocated
	}
	_, few := leave(250)
	changes, many := leave(1000)
	// The list of those who share the address is still copied for each.
	if many > 10*few {
		t.Errorf("250 Services that leave allocate %d bytes, 1,000 %d", few, many)
	}
	i := slices.IndexFunc(changes, func(c Change) bool { return c.Zone.Origin() == "in-addr.arpa." })
	if i < 0 || len(changes[i].Gone()) != 1000 || len(changes[i].Come()) != 0 {
		t.Errorf("the changes are %v, want 1000 pointers that went", changes)
	}
}
