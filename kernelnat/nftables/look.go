package nftables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
	"golang.org/x/sys/unix"
)

// Look returns what the kernel holds of one Service, nil if there is no table of ours. It asks
// for the elements that packets to the Service meet, one by one, over a socket of its own. So
// it costs what the Service costs. It reads of the state its Node alone, and writes nothing.
func Look(ctx context.Context, family cluster.Family, p plan.Service, state kernelnat.State, settings netfilter.Settings) (*status.Kernel, error) {
	return LookFor(ctx, family, p, state, settings, nil)
}

// LookFor is Look for a table in which pools lead to virtual servers of a Chooser. Its Server is
// told as before what the kernel has. It returns nil for a table without a Chooser, and Look for
// one with.
func LookFor(_ context.Context, family cluster.Family, p plan.Service, state kernelnat.State, settings netfilter.Settings, chooser Chooser) (*status.Kernel, error) {
	s, err := dial()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	l := look{socket: s, language: language{family}, schema: newSchema(family, settings.CountEndpoints), have: newHeld()}
	if err := s.readTable(l.language, l.have); unsupported(err) {
		return nil, nil
	} else if err != nil || !l.have.there {
		return nil, err
	}
	if err := errors.Join(s.readChains(l.language, l.have), s.readRules(l.language, l.have), s.readSets(l.language, l.have)); err != nil && !errors.Is(err, errDumpInterrupted) {
		return nil, fmt.Errorf("read table %s of nftables for %s: %w", tableName, family, err)
	}
	if (l.have.chains[chainVirtual] != nil) != (chooser != nil) {
		return nil, nil
	}
	d, err := dialectOf(l.language, settings, state)
	if err != nil {
		return nil, err
	}
	d.localhost, d.virtual = d.localhost && l.have.chains[chainLoopback] != nil, rangeOf(chooser)
	out := &status.Kernel{Wrong: l.shared(d)}
	planned := newState(l.schema).chosenBy(chooser)
	held, err := l.led(planned, &p)
	if err != nil {
		return nil, fmt.Errorf("read what table %s of nftables has for %s: %w", tableName, p.Name, err)
	}
	target := planned.target(held, &p)
	for i := range target.frontends {
		held, err := l.frontend(planned, &target.frontends[i], d)
		if err != nil {
			return nil, fmt.Errorf("read what table %s of nftables has for %s: %w", tableName, p.Frontends[i].Key, err)
		}
		out.Frontends = append(out.Frontends, held)
	}
	return out, nil
}

// led returns the first slots of pools, which a Chooser is told of.
func (l *look) led(planned *state, p *plan.Service) (*service, error) {
	if planned.chooser == nil {
		return nil, nil
	}
	out := new(service)
	for i := range p.Pools {
		held := &pool{port: p.Pools[i].Port, protocol: p.Pools[i].Protocol}
		for _, f := range p.Of(i) {
			for _, side := range []side{near, far} {
				e, there, err := l.element(l.schema.placeOf(f.Kind == plan.NodePort).endpoints, appendSlot(nil, f.Key, side, 0))
				if err != nil {
					return nil, err
				}
				if there {
					*held.slotsFor(f.Local && side == near) = []netip.AddrPort{addrPortOf(e.data)}
				}
			}
		}
		out.pools = append(out.pools, held)
	}
	return out, nil
}

// look reads the table in one family.
type look struct {
	*socket
	language language
	schema   *schema
	have     *held // without elements
}

// shared says what is wrong with what the packets of all Services pass. What refuses is left
// out that depends on ranges, which may be changing.
func (l *look) shared(d dialect) (wrong []string) {
	if l.have.flags&unix.NFT_TABLE_F_DORMANT != 0 {
		wrong = append(wrong, "table "+tableName+" is dormant: it sees no packets")
	}
	for _, c := range slices.Concat(l.schema.fixedChains(d), l.schema.sharedChains(d)) {
		if c.name != chainRanges {
			wrong = append(wrong, l.chain(&c)...)
		}
	}
	for _, s := range l.schema.sets() {
		if shape, there := l.have.sets[s.name]; !there {
			wrong = append(wrong, fmt.Sprintf("set %s is not there", s.name))
		} else if shape != s.shape() {
			wrong = append(wrong, fmt.Sprintf("set %s has another type", s.name))
		}
	}
	return wrong
}

// chain says what is wrong with a chain.
func (l *look) chain(c *chain) []string {
	have := l.have.chains[c.name]
	switch {
	case have == nil:
		return []string{fmt.Sprintf("chain %s is not there", c.name)}
	case c.hook != nil && (!have.based || have.hook != *c.hook):
		return []string{fmt.Sprintf("chain %s sees other packets", c.name)}
	case have.is(c):
		return nil
	case len(have.rules) < len(c.rules):
		return []string{fmt.Sprintf("chain %s lacks %d of %d rules", c.name, len(c.rules)-len(have.rules), len(c.rules))}
	}
	return []string{fmt.Sprintf("chain %s has other rules", c.name)}
}

// frontend says what packets to one meet.
func (l *look) frontend(planned *state, f *frontend, d dialect) (out status.Held, err error) {
	place, key := planned.placeOf(f), appendKey(nil, f.Key)
	counted, there, err := l.element(place.connections, key)
	if err != nil {
		return out, err
	}
	if !there {
		out.Wrong = append(out.Wrong, lacks(place.connections, key))
	} else {
		out.Connections = &counted.count
	}
	if _, there, err = l.element(place.known, key); err != nil {
		return out, err
	} else if !there {
		out.Wrong = append(out.Wrong, lacks(place.known, key))
	}
	if err := l.class(&out, planned, place.class, key, f.class, d); err != nil {
		return out, err
	}
	if f.class == 0 {
		out.Meets = append(out.Meets, fmt.Sprintf("set %s { %s }: nobody translates it, and chain %s refuses it", place.known.name, text(place.known.key, key), chainRefuse))
	}
	if f.inside != 0 {
		if err := l.class(&out, planned, place.inside, key, f.inside, d); err != nil {
			return out, err
		}
	}
	if _, drops, err := l.element(place.drops, key); err != nil {
		return out, err
	} else if drops != f.drops {
		out.Wrong = append(out.Wrong, fmt.Sprintf("set %s has { %s }: %t, and not %t", place.drops.name, text(place.drops.key, key), drops, f.drops))
	} else if f.drops {
		out.Meets = append(out.Meets, fmt.Sprintf("set %s { %s }: what is not translated is dropped", place.drops.name, text(place.drops.key, key)))
	}
	for _, r := range f.sources {
		if err := l.source(&out, place.sources, f.Key, r); err != nil {
			return out, err
		}
	}
	for _, side := range sides {
		if err := l.slots(&out, place, f, side); err != nil {
			return out, err
		}
	}
	return out, nil
}

func lacks(s *set, key []byte) string {
	return fmt.Sprintf("%s %s has no { %s }", s.word(), s.name, text(s.key, key))
}

func (s *set) word() string {
	if s.isMap() {
		return "map"
	}
	return "set"
}

// class follows a frontend to its class's chain. The numbers of classes are the kernel's own, so
// the chains are compared by name.
func (l *look) class(out *status.Held, planned *state, set *set, key []byte, class uint32, d dialect) error {
	e, there, err := l.element(set, key)
	switch {
	case err != nil:
		return err
	case !there && class == 0:
		return nil
	case !there:
		out.Wrong = append(out.Wrong, lacks(set, key))
		return nil
	}
	out.Meets = append(out.Meets, fmt.Sprintf("map %s { %s : %s }", set.name, text(set.key, key), text(set.data, e.data)))
	if class == 0 {
		out.Wrong = append(out.Wrong, fmt.Sprintf("map %s has { %s }, which leads to endpoints that there are not", set.name, text(set.key, key)))
		return nil
	}
	number := slices.Clone(e.data)
	leads, there, err := l.element(l.schema.classes, number)
	if err != nil {
		return err
	}
	if !there {
		out.Wrong = append(out.Wrong, lacks(l.schema.classes, number))
		return nil
	}
	name := string(leads.data)
	out.Meets = append(out.Meets, fmt.Sprintf("map %s { %s : goto %s }", l.schema.classes.name, text(l.schema.classes.key, number), name))
	of := planned.classIDs[class]
	if want := of.name(); name != want {
		out.Wrong = append(out.Wrong, fmt.Sprintf("map %s leads to chain %s, and not to %s", set.name, name, want))
		return nil
	}
	want := l.schema.classChain(d, of)
	out.Wrong = append(out.Wrong, l.chain(&want)...)
	return nil
}

// source looks for one range of clients.
func (l *look) source(out *status.Held, set *set, of plan.Key, r netip.Prefix) error {
	key := appendSource(nil, of, r)
	_, there, err := l.element(set, key)
	if err != nil {
		return err
	}
	element := rangeText(set, key[:len(key)/2], key[len(key)/2:])
	if out.Meets = append(out.Meets, fmt.Sprintf("set %s { %s }", set.name, element)); !there {
		out.Wrong = append(out.Wrong, fmt.Sprintf("set %s has no { %s }", set.name, element))
	}
	return nil
}

// What is looked at, and shown, of one frontend. Some Services have thousands of endpoints.
const (
	mostSlots  = 4096
	shownSlots = 4
)

// slots compares the endpoints in a frontend's slots. Which endpoint is in which slot depends
// on what was before, and decides nothing, but under policies that say so.
func (l *look) slots(out *status.Held, place *place, f *frontend, side side) error {
	planned := f.slots(side)
	missing := make(map[netip.AddrPort]int, len(planned))
	for _, e := range planned[:min(len(planned), mostSlots)] {
		missing[e]++
	}
	whole := len(planned) <= mostSlots
	strange := make(map[netip.AddrPort]bool)
	for i := range min(len(planned), mostSlots) {
		key := appendSlot(nil, f.Key, side, i)
		e, there, err := l.element(place.endpoints, key)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		at := addrPortOf(e.data)
		if place.endpoints.counted && f.pool.number == 0 {
			if out.Endpoints == nil {
				out.Endpoints = make(map[netip.AddrPort]uint64)
			}
			out.Endpoints[at] += e.count
		}
		if missing[at]--; missing[at] < 0 {
			strange[at] = true
		}
		if f.pool.number != 0 {
			if err := l.member(out, place, f, key, side == far, at); err != nil {
				return err
			}
		}
		switch {
		case i < shownSlots:
			out.Meets = append(out.Meets, fmt.Sprintf("map %s { %s : %s }", place.endpoints.name, text(place.endpoints.key, key), text(place.endpoints.data, e.data)))
		case i == shownSlots:
			out.Meets = append(out.Meets, fmt.Sprintf("and %d more slots", len(planned)-i))
		}
	}
	if !whole {
		return nil // the rest may have what seems to be missing
	}
	for _, e := range planned {
		if missing[e] > 0 {
			missing[e] = 0
			out.Wrong = append(out.Wrong, fmt.Sprintf("map %s does not lead %s to endpoint %s", place.endpoints.name, f.Key, e))
		}
	}
	for e := range strange {
		if missing[e] < 0 {
			out.Wrong = append(out.Wrong, fmt.Sprintf("map %s leads %s to %s more often than planned", place.endpoints.name, f.Key, e))
		}
	}
	slices.Sort(out.Wrong)
	return nil
}

// member looks for the one in a slot of a frontend whose clients keep their endpoint. The numbers
// of members are the kernel's own.
func (l *look) member(out *status.Held, place *place, f *frontend, slot []byte, far bool, at netip.AddrPort) error {
	e, there, err := l.element(place.slots, slot)
	if err != nil {
		return err
	}
	if !there {
		out.Wrong = append(out.Wrong, lacks(place.slots, slot))
		return nil
	}
	set := l.schema.membersOf(!far && slices.Equal(f.near, f.pool.local) && !slices.Equal(f.near, f.pool.cluster))
	key := appendProtocol(slices.Clone(e.data), f.Protocol)
	m, there, err := l.element(set, key)
	switch {
	case err != nil:
		return err
	case !there:
		out.Wrong = append(out.Wrong, lacks(set, key))
	case addrPortOf(m.data) != at:
		out.Wrong = append(out.Wrong, fmt.Sprintf("map %s { %s } leads to %s, and not to %s", set.name, text(set.key, key), addrPortOf(m.data), at))
	}
	return nil
}

// element asks for one element of a set. It has the key in its first and, of a set of ranges,
// last part.
func (s *socket) element(l language, set *set, key []byte) (found element, there bool, err error) {
	request := l.request(unix.NFT_MSG_GETSETELEM, func(m *messages) {
		m.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		m.text(unix.NFTA_SET_ELEM_LIST_SET, set.name)
		m.nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() {
			m.nested(unix.NFTA_LIST_ELEM, func() { m.buf = appendElementKey(m.buf, set, key) })
		})
	})
	err = s.ask(request, unix.NLM_F_ACK, func(body []byte) error {
		return attributes(body, func(kind uint16, value []byte) {
			if kind == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				eachElement(value, func(e element) {
					found, there = element{key: bytes.Clone(e.key), data: bytes.Clone(e.data), count: e.count}, true
				})
			}
		})
	})
	if errors.Is(err, unix.ENOENT) {
		return found, false, nil
	}
	return found, there, err
}

func (l *look) element(set *set, key []byte) (element, bool, error) {
	return l.socket.element(l.language, set, key)
}
