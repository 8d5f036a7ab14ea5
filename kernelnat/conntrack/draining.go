package conntrack

import (
	"errors"
	"io/fs"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
)

// idle is how long there is no packet of a UDP flow to an endpoint that terminates
// before the flow is forgotten. A reply that takes longer is lost; but whoever looks
// up names waits for 5 seconds, and 5 seconds is the usual lameduck of name servers.
const idle = 2 * time.Second

// firstLook is the least time between two looks at the flows that are left. The longer
// an endpoint drains the more seldom they are, since a look reads the whole flow table.
const firstLook = time.Second

// Draining collects the UDP frontends of one IP family with endpoints that terminate.
// Flows to those are forgotten once they are idle, and go on while they are busy.
//
// No flow is deleted for that, which could take it from under a query that waits for its
// reply. Its timeout is cut to idle, and each packet in either direction sets it back;
// the next look cuts it again. More may be noted while a look is under way. The zero value is
// empty.
type Draining struct {
	mu        sync.Mutex
	endpoints map[plan.Key][]netip.AddrPort // sorted
	abandoned map[netip.AddrPort]bool
	began     time.Time // when the last of them began to terminate
	next      time.Time // when to look; zero: there is nothing to look for
}

// Changed takes over what terminates when the old plans give way to the new.
func (d *Draining) Changed(changes []plan.Change) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := make(map[plan.Key][]netip.AddrPort)
	for _, change := range changes {
		for f := range terminating(change.Old) {
			before[f] = d.endpoints[f]
			delete(d.endpoints, f)
		}
	}
	// Second, since a Service may take over a frontend that another gave up.
	for _, change := range changes {
		for f, endpoints := range terminating(change.New) {
			if d.endpoints == nil {
				d.endpoints = make(map[plan.Key][]netip.AddrPort)
			}
			d.endpoints[f] = endpoints
			if lost(endpoints, before[f]) {
				d.began = time.Now()
				d.next = d.began
			}
		}
	}
	if len(d.endpoints) == 0 {
		d.next = time.Time{}
	}
}

// terminating returns the UDP frontends of a plan that have endpoints which terminate.
func terminating(service plan.Service) map[plan.Key][]netip.AddrPort {
	var out map[plan.Key][]netip.AddrPort
	for _, f := range service.Frontends {
		if leaving := service.Pools[f.Pool].Terminating; f.Protocol == cluster.UDP && len(leaving) > 0 {
			if out == nil {
				out = make(map[plan.Key][]netip.AddrPort)
			}
			out[f.Key] = leaving
		}
	}
	return out
}

// Abandon makes a look due that deletes the flows to those of these endpoints that
// terminate, busy or not: who serves them is about to end.
func (d *Draining) Abandon(endpoints []netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.abandoned = make(map[netip.AddrPort]bool, len(endpoints))
	for _, e := range endpoints {
		d.abandoned[e] = true
	}
	if len(d.endpoints) > 0 {
		d.next = time.Now()
	}
}

// Next returns when to look at the flows; ok is false while nothing is to be seen.
func (d *Draining) Next() (at time.Time, ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.next, !d.next.IsZero()
}

// matches reports whether a flow leads to an endpoint that terminates, and whether that is
// given up.
func (d *Draining) matches(own map[netip.Addr]bool, protocol cluster.Protocol, to, replier netip.AddrPort) (leaves, abandoned bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	leaving, ok := at(d.endpoints, own, protocol, to)
	leaves = ok && plan.Contains(leaving, replier)
	return leaves, leaves && d.abandoned[replier]
}

// looked notes that a look is over, what Next was when it began, and whether some flows were
// left. New ones do not begin: where none is, none will be.
func (d *Draining) looked(next time.Time, left bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.next.Equal(next) {
		return // there is more to look for since
	}
	if d.next = (time.Time{}); left {
		now := time.Now()
		d.next = now.Add(max(firstLook, now.Sub(d.began)/2))
	}
}

// expire cuts the timeouts of flows.
func expire(kernel *netlink.Handle, flows []*netlink.ConntrackFlow, inet netlink.InetFamily) error {
	flows = slices.DeleteFunc(flows, func(f *netlink.ConntrackFlow) bool {
		return f.TimeOut <= uint32(idle/time.Second) || f.Zone != 0
	})
	var errs []error
	for _, f := range flows {
		f.TimeOut = uint32(idle / time.Second)
		if err := kernel.ConntrackUpdate(netlink.ConntrackTable, inet, f); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
