package endurance

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/vishvananda/netlink"
)

// Bounds of a client: flows that wait for an answer, flows that the kernel remembers, and
// how long an answer may take on a busy machine.
const (
	window   = 512
	memory   = 60_000
	patience = 10 * time.Second
)

// trapped is who answers outside, where no packet to a Service may come.
const trapped = 255

// clients is how many addresses a client has. There is one flow of each at a time.
const clients = 1024

// client makes flows from many addresses to one, and checks what becomes of each.
type client struct {
	wire     *wire
	gateway  net.HardwareAddr
	family   cluster.Family
	protocol cluster.Protocol
	base     netip.Addr // the first of its addresses
	to       netip.AddrPort
	history  *history
	// sticky is how long a client returns to its endpoint, as long as that is one.
	sticky time.Duration
	// forget has the node forget all flows; no flow waits then.
	forget func() error

	waiting  [window]flow
	waits    int
	last     [clients]visit
	addrs    [clients]netip.Addr
	results  results
	examples []string
}

// flow is one that waits for an answer.
type flow struct {
	number uint64
	sent   time.Duration
	waits  bool
}

// visit is a client's last one.
type visit struct {
	server byte
	sent   time.Duration
	known  bool
}

// results counts flows.
type results struct {
	answered, refused, returned int
	// What is wrong.
	wronglyRefused, leaked, gone, lost, elsewhere int
}

// maxMoved is how many of so many clients may be moved, at most: a client is not remembered if
// commits hide twice what it is looked up by.
const maxMoved = 10_000

// wrong is how many flows there must not be.
func (r *results) wrong() int {
	wrong := r.wronglyRefused + r.leaked + r.gone + r.lost
	if r.elsewhere > 1+r.returned/maxMoved {
		wrong += r.elsewhere
	}
	return wrong
}

func (r results) String() string {
	return fmt.Sprintf("%d answered, %d refused while there was no endpoint, %d came back to where they had been; "+
		"wrong: %d refused, %d let out, %d to an endpoint that was gone, %d without an answer, %d moved from an endpoint that stayed",
		r.answered, r.refused, r.returned, r.wronglyRefused, r.leaked, r.gone, r.lost, r.elsewhere)
}

// maxExamples is how many wrong flows are told one by one.
const maxExamples = 10

func (c *client) tell(f *flow, at time.Duration, what string) {
	if len(c.examples) < maxExamples {
		c.examples = append(c.examples, fmt.Sprintf("flow %d, sent at %v, %v later: %s", f.number, f.sent, at-f.sent, what))
	}
}

// run makes so many flows, and returns when each has an answer or none within patience.
func (c *client) run(flows int, stop func() bool) error {
	addr := c.base
	for i := range c.addrs {
		c.addrs[i], addr = addr, addr.Next()
	}
	next, forgotten := uint64(0), uint64(0)
	for next < uint64(flows) || c.waits > 0 {
		full := next-forgotten >= memory
		if full && c.waits == 0 {
			if err := c.forget(); err != nil {
				return err
			}
			forgotten, full = next, false
		}
		ended := next >= uint64(flows) || stop()
		if ended {
			next = max(next, uint64(flows))
		}
		send := !full && !ended && c.room(next)
		if send {
			if err := c.send(next); err != nil {
				return err
			}
			next += chunk
		}
		frames, err := c.wire.receive(!send)
		if err != nil {
			return err
		}
		now := c.history.now()
		for _, frame := range frames {
			if r, ok := readReply(frame, c.family); ok {
				c.take(r, now)
			}
		}
		if len(frames) == 0 {
			c.giveUp(now)
		}
	}
	return nil
}

// room reports whether none of the flows before these waits that has their place.
func (c *client) room(next uint64) bool {
	for i := range uint64(chunk) {
		if c.waiting[(next+i)%window].waits {
			return false
		}
	}
	return true
}

func (c *client) send(next uint64) error {
	now := c.history.now()
	c.waits += chunk
	return c.wire.send(chunk, func(i int, frame []byte) int {
		n := next + uint64(i)
		c.waiting[n%window] = flow{n, now, true}
		port := uint16(1024 + n/clients%60_000)
		p := first{c.family, c.protocol, netip.AddrPortFrom(c.addrs[n%clients], port), c.to, n}
		return p.write(frame, c.wire.mac, c.gateway)
	})
}

// take checks a reply. There is one for each flow.
func (c *client) take(r reply, now time.Duration) {
	f := &c.waiting[r.number%window]
	if !f.waits || uint32(f.number) != uint32(r.number) {
		return
	}
	f.waits = false
	c.waits--
	any, _, none := c.history.between(f.sent, now)
	visitor := &c.last[f.number%clients]
	switch {
	case r.refused && none:
		c.results.refused++
	case r.refused:
		c.results.wronglyRefused++
		c.tell(f, now, "refused")
	case r.server == trapped:
		c.results.leaked++
		c.tell(f, now, "it left the node")
	case !any.has(r.server):
		c.results.gone++
		c.tell(f, now, fmt.Sprintf("endpoint %d answers, of %b", r.server, any))
	default:
		c.results.answered++
		c.checkReturn(f, r, now, visitor)
		*visitor = visit{r.server, f.sent, true}
		return
	}
	visitor.known = false
}

func (c *client) checkReturn(f *flow, r reply, now time.Duration, last *visit) {
	if !last.known || now-last.sent > c.sticky {
		return
	}
	_, always, _ := c.history.between(last.sent, now)
	switch {
	case !always.has(last.server):
	case r.server == last.server:
		c.results.returned++
	default:
		c.results.elsewhere++
		c.tell(f, now, fmt.Sprintf("endpoint %d answers; it was %d, which has been one since", r.server, last.server))
	}
}

// giveUp takes the flows that have waited too long for lost.
func (c *client) giveUp(now time.Duration) {
	for i := range c.waiting {
		if f := &c.waiting[i]; f.waits && now-f.sent > patience {
			f.waits = false
			c.waits--
			c.results.lost++
			c.tell(f, now, "no answer")
			c.last[f.number%clients].known = false
		}
	}
}

// serve answers first packets until stop says so. who says who is asked at an address.
func serve(w *wire, family cluster.Family, who func(to []byte) byte, stop func() bool) error {
	for !stop() {
		frames, err := w.receive(true)
		if err != nil {
			return err
		}
		n := 0
		for _, frame := range frames {
			if answer(frame, family, who) {
				frames[n] = frame
				n++
			}
		}
		if n == 0 {
			continue
		}
		if err := w.send(n, func(i int, frame []byte) int { return copy(frame, frames[i]) }); err != nil {
			return err
		}
	}
	return nil
}

// forgetFlows empties the node's table of flows.
func forgetFlows() error {
	return netlink.ConntrackTableFlush(netlink.ConntrackTable)
}
