package clusterip

import (
	"net/netip"
	"time"
	"unsafe"

	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/miekg/dns"
)

// block is a server block of a server, by the zone that queries come to it for. Without a
// lane its queries are for the plugin chain.
type block struct {
	zone string
	lane *lane
}

// answerer answers queries on one thread of the fast path, with the octets that the plugin
// chain would send, but for compression. It implements fastpath.Answerer.
type answerer struct {
	blocks   []block // the most specific first
	question wire.Question
	reply    wire.Reply
	tally    tally
	path     [3]string // of a search, see search.path
	target   [wire.MaxName]byte
}

// Answer implements fastpath.Answerer. It leaves to the chain what is rare, what other
// plugins answer, and everything while the source is not what it should be.
func (a *answerer) Answer(out, query []byte, from netip.AddrPort) ([]byte, bool) {
	done, left := a.answer(out, query, from)
	if left != "" {
		a.tally.leave(left)
		return out, false
	}
	return done, true
}

// answer says why it leaves a query to the chain, in the words of the metric.
func (a *answerer) answer(out, query []byte, from netip.AddrPort) (done []byte, left string) {
	q := &a.question
	if !q.Parse(query) {
		return nil, "question"
	}
	l := a.lane(q.Name)
	if l == nil {
		return nil, "zone"
	}
	h := l.handler
	z := h.index.Match(q.Name)
	switch {
	case z == nil:
		return nil, "zone"
	case !askedHere(q.Type):
		return nil, "type"
	case !h.store.HasSynced() || h.stale():
		return nil, "source"
	}
	if left := l.leaves(q, from); left != "" {
		return nil, left
	}
	hit := z.Find(q.Name, q.Type)
	if hit.Outcome == zone.NXDomain && h.through(q.Name) {
		return nil, "fallthrough"
	}
	var path []string
	if l.search != nil {
		path = l.search.path(h, z, q.Name, from, &a.path)
	}
	var target []byte
	if path != nil && hit.Outcome == zone.NXDomain {
		var ok bool
		if hit, target, ok = l.search.next(h, z, q.Name, q.Type, path, a.target[:0]); !ok {
			return nil, "search"
		}
	}
	if l.size > 0 {
		q.Clamp(l.size)
	}
	a.reply.Begin(out, query, q)
	if target != nil && hit.Outcome == zone.Success {
		a.reply.Follow(nameIn(target), h.options.TTL)
	}
	if !hit.AppendWire(&a.reply, h.serial(), l.shuffle) {
		return nil, "record"
	}
	if path != nil {
		l.search.found()
	}
	a.tally.add(l, q, from, hit.Outcome, len(query), a.reply.Length)
	if hit.Lack != 0 {
		a.tally.miss(h, from, hit.Lack)
	}
	return a.reply.Finish(byte(rcode(hit.Outcome))), ""
}

// nameIn is a name in memory that is used again: nobody may keep it.
func nameIn(name []byte) string { return unsafe.String(unsafe.SliceData(name), len(name)) }

func (a *answerer) lane(name string) *lane {
	for i := range a.blocks {
		if b := &a.blocks[i]; zone.Contains(b.zone, name) {
			return b.lane
		}
	}
	return nil
}

// askedHere reports whether a type is answered from the zone that a name is in, and by us:
// the server looks for DS records in the zone above, other plugins transfer zones, loop
// looks for HINFO, and the any plugin answers ANY.
func askedHere(qtype uint16) bool {
	switch qtype {
	case dns.TypeDS, dns.TypeAXFR, dns.TypeIXFR, dns.TypeHINFO, dns.TypeANY:
		return false
	}
	return true
}

// Flush implements fastpath.Answerer.
func (a *answerer) Flush(took time.Duration) { a.tally.flush(took) }
