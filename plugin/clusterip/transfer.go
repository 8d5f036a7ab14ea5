package clusterip

import (
	"errors"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"
)

// versions ties what the Index holds to a serial, and remembers how it came
// there if anybody transfers zones.
type versions struct {
	mu       sync.Mutex // held while the Index changes
	serial   atomic.Uint32
	notifier *notifier               // nil without the transfer plugin
	journals map[*zone.Zone]*journal // nil until there is something to transfer
}

// apply follows the Store.
func (h *Handler) apply(u cluster.Update) {
	v := &h.versions
	v.mu.Lock()
	defer v.mu.Unlock()
	changes := h.index.Apply(u)
	serial := uint32(h.store.Generation())
	v.serial.Store(serial)
	if v.notifier != nil && v.journals == nil && u.Synced {
		v.track(h.index)
	}
	for _, c := range changes {
		v.journals[c.Zone].add(serial, c.Gone(), c.Come())
		v.notifier.mark(c.Zone.Origin())
	}
}

// transfers begins to remember changes and to tell secondaries of them, also of
// what is there now. That gets a serial of its own: the server before a reload may
// have served something else by the present one, with another ttl.
func (h *Handler) transfers(t *transfer.Transfer) {
	h.store.Renew()
	v := &h.versions
	v.mu.Lock()
	defer v.mu.Unlock()
	v.notifier = newNotifier(t.Notify)
	if h.store.HasSynced() {
		v.track(h.index)
	}
	go v.notifier.run()
}

// track begins the journals, once there is something to transfer: what the first
// listing brings is no change that anybody could ask for.
func (v *versions) track(index *zone.Index) {
	v.journals = make(map[*zone.Zone]*journal)
	index.Track()
	for _, z := range index.Zones() {
		v.journals[z] = &journal{oldest: v.serial.Load()}
		v.notifier.mark(z.Origin())
	}
}

// close ends what follows the Store.
func (h *Handler) close() {
	h.unsubscribe()
	h.versions.mu.Lock()
	defer h.versions.mu.Unlock()
	if h.versions.notifier != nil {
		h.versions.notifier.stop()
	}
}

// Transfer implements transfer.Transferer. A client with the present serial, or a
// later one, gets the SOA alone; one with a serial in the journal what changed
// since; all others, and serial 0, the whole zone.
func (h *Handler) Transfer(origin string, serial uint32) (<-chan []dns.RR, error) {
	z := h.index.Zone(origin)
	if z == nil {
		return nil, transfer.ErrNotAuthoritative
	}
	if !h.store.HasSynced() {
		return nil, errors.New("no zone can be transferred before the first sync")
	}
	v := &h.versions
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.serial.Load()
	soa := z.SOA(now)
	if serial != 0 && !newer(now, serial) {
		return send(slices.Values([][]dns.RR{soa})), nil
	}
	if j := v.journals[z]; j != nil && serial != 0 {
		if difference, ok := j.since(serial); ok {
			return send(incremental(z.SOA(serial), soa, difference)), nil
		}
	}
	return send(whole(soa, z.Snapshot())), nil
}

// incremental is one difference sequence of RFC 1995 section 4.
func incremental(old, now []dns.RR, d zone.Delta) iter.Seq[[]dns.RR] {
	return func(yield func([]dns.RR) bool) {
		slices.Values([][]dns.RR{now, old, d.Gone(), now, d.Come(), now})(yield)
	}
}

// whole is RFC 5936.
func whole(soa []dns.RR, s *zone.Snapshot) iter.Seq[[]dns.RR] {
	return func(yield func([]dns.RR) bool) {
		if !yield(soa) {
			return
		}
		for records := range s.Records() {
			if !yield(records) {
				return
			}
		}
		yield(soa)
	}
}

// send writes to a channel, which the transfer plugin reads to its end whatever
// becomes of the client.
func send(pieces iter.Seq[[]dns.RR]) <-chan []dns.RR {
	out := make(chan []dns.RR)
	go func() {
		defer close(out)
		for records := range pieces {
			out <- records
		}
	}()
	return out
}
