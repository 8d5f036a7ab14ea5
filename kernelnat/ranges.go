package kernelnat

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// ranges knows what is nobody's in the ranges of ClusterIPs of one family. What admins
// decide on is looked at whole, when it changes. What Services say is counted by
// address, and only where nothing else has that exempt already.
type ranges struct {
	family cluster.Family
	proxy  cluster.Proxy // see plan.Options.Proxy

	around around
	fixed  []plan.Known // but for what Services say
	settle []plan.Range // with what is fixed
	// What Services say of addresses that the ranges above would have refused.
	said  map[cluster.ServiceName][]plan.Known
	count map[plan.Known]int

	changed  bool         // since the last update
	now      []plan.Range // with all that is known
	overlaps []plan.Overlap
	written  []plan.Range // what the Backend was last asked to refuse

	here        []plan.Known // what the node itself last said
	hereTrouble string       // why it does not now
	heard       bool         // it could be asked once
	unheard     bool         // it was asked, and never could say
	tidings     tidings
	toldUnsure  bool
}

func newRanges(o *Options) *ranges {
	return &ranges{
		family: o.Family, proxy: o.Plan.Proxy,
		said: make(map[cluster.ServiceName][]plan.Known), count: make(map[plan.Known]int),
	}
}

// setFixed takes over what is known besides Services. It reports whether all Services
// are to be set anew, since other addresses of theirs count.
func (r *ranges) setFixed(around around, known []plan.Known) (anew bool) {
	r.around, r.fixed, r.changed = around, known, true
	settled, _ := plan.Ranges(around.cidrs, r.family, known)
	if slices.EqualFunc(settled, r.settle, plan.Range.Equal) {
		return false
	}
	r.settle = settled
	clear(r.said)
	clear(r.count)
	return true
}

// set takes over what a Service says, nil if it is gone.
func (r *ranges) set(name cluster.ServiceName, s *cluster.Service) {
	r.changed = r.changed || len(r.said[name]) > 0
	for _, k := range r.said[name] {
		if r.count[k]--; r.count[k] == 0 {
			delete(r.count, k)
		}
	}
	delete(r.said, name)
	if s == nil {
		return
	}
	var said []plan.Known
	say := func(addr netip.Addr, what string) {
		k := plan.KnownAt(addr, what)
		if n := len(said); r.nobodys(addr) && (n == 0 || said[n-1] != k) { // endpoints are sorted
			said = append(said, k)
		}
	}
	for i := range s.Endpoints {
		say(s.Endpoints[i].Addr, "endpoints of Services")
	}
	if servedByAnother(s, r.proxy) {
		for _, addr := range s.ClusterIPs {
			say(addr, "")
		}
	}
	for _, k := range said {
		r.count[k]++
	}
	if len(said) > 0 {
		r.said[name], r.changed = said, true
	}
}

// servedByAnother reports whether a Service is left to another proxy.
func servedByAnother(s *cluster.Service, proxy cluster.Proxy) bool { return s.Proxy != proxy }

// nobodys reports whether an address would be refused if there were no Services.
func (r *ranges) nobodys(a netip.Addr) bool {
	return slices.ContainsFunc(r.settle, func(s plan.Range) bool { return s.Nobodys(a) })
}

// update works out what is nobody's.
func (r *ranges) update() {
	r.changed = false
	known := slices.Clone(r.fixed)
	var said []plan.Known
	if len(r.count) <= plan.MaxExempt {
		said = slices.SortedFunc(maps.Keys(r.count), func(a, b plan.Known) int { return a.At.Compare(b.At) })
	} else {
		// So many are not looked at one by one with each change.
		for _, s := range r.settle {
			known = append(known, plan.Known{At: s.CIDR, What: "many endpoints of Services, or ClusterIPs that another proxy serves"})
		}
	}
	r.now, r.overlaps = plan.Ranges(r.around.cidrs, r.family, append(known, said...))
}

// refused is what the kernel is to refuse.
func (r *ranges) refused(o *Options) []plan.Range {
	if o.KeepUnknown || r.around.unsure || r.unheard {
		return nil
	}
	return r.now
}

// undisputed are the ranges of which all is the Services', as far as admins say: those
// in which no Service gets another's address.
func (r *ranges) undisputed() []netip.Prefix {
	var out []netip.Prefix
	for _, s := range r.settle {
		if !s.Open && len(s.Exempt) == 0 {
			out = append(out, s.CIDR)
		}
	}
	return out
}

// tellAgain is after how long an overlap is told again that comes and goes.
const tellAgain = time.Hour

// maxOverlaps is how many overlaps are remembered to have been told, and told.
const maxOverlaps = 1000

// tidings are the overlaps that were told, by what they are of.
type tidings struct {
	present map[plan.Overlap]bool
	told    map[plan.Overlap]time.Time
}

// new returns those of the overlaps that are to be told now.
func (t *tidings) new(overlaps []plan.Overlap, now time.Time) []plan.Overlap {
	var out []plan.Overlap
	before := t.present
	t.present = make(map[plan.Overlap]bool)
	if t.told == nil {
		t.told = make(map[plan.Overlap]time.Time)
	}
	for _, o := range overlaps {
		key := plan.Overlap{CIDR: o.CIDR, What: o.What}
		t.present[key] = true
		last, known := t.told[key]
		if before[key] || known && now.Sub(last) < tellAgain || !known && len(t.told) >= maxOverlaps {
			continue
		}
		t.told[key] = now
		out = append(out, o)
	}
	return out
}
