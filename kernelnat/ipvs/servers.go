package ipvs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/nftables"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"golang.org/x/sys/unix"
)

// servers are the virtual servers of one IP family, and the Chooser of its nftables.Backend. What
// is wanted is noted when nftables asks for it, and what comes is written right before nftables
// writes; what goes is written after it, by finish.
type servers struct {
	within  netip.Prefix
	kernel  kernel
	numbers numbers

	held   map[id]*server                      // what the kernel has; nil: that is not known
	wanted map[cluster.ServiceName][]*assigned // what Services are to have, and have had
	of     map[pooled]*assigned                // the same: a Service may have thousands of ports
	owned  map[netip.AddrPort]bool             // where these are
	round  int
	waits  []*assigned // those of which something may be to come
}

var _ nftables.Chooser = (*servers)(nil)

func newServers(family cluster.Family, k kernel, first uint32) *servers {
	within := ranges[family]
	return &servers{
		within: within, kernel: k, numbers: numbers{within, first}, held: make(map[id]*server),
		wanted: make(map[cluster.ServiceName][]*assigned), of: make(map[pooled]*assigned), owned: make(map[netip.AddrPort]bool),
	}
}

// assigned is the virtual server of a pool, for all its endpoints or for those on this node.
type assigned struct {
	pooled
	round int // in which it was wanted last
	*server
}

// pooled is what a virtual server is for, as long as it has its place.
type pooled struct {
	service   cluster.ServiceName
	port      string
	protocol  cluster.Protocol
	local     bool
	scheduler string
}

// Range implements nftables.Chooser.
func (s *servers) Range() netip.Prefix { return s.within }

// Server implements nftables.Chooser. A virtual server keeps its place as long as its scheduler:
// where the kernel replaces that, there is none in between for some milliseconds
// (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_edit_service).
func (s *servers) Server(service cluster.ServiceName, p *plan.Pool, local bool, before netip.AddrPort) (at netip.AddrPort, chosen bool) {
	scheduler, is := schedulerOf(p, local)
	if !is {
		return at, false
	}
	of := pooled{service, p.Port, p.Protocol, local, scheduler}
	next := &server{id: id{protocol: p.Protocol}, scheduler: scheduler, reals: realsOf(p, local)}
	a := s.of[of]
	if a == nil {
		if next.at, is = s.place(before, next); !is {
			return at, false
		}
		a = &assigned{pooled: of}
		s.of[of], s.wanted[service], s.owned[next.at] = a, append(s.wanted[service], a), true
	} else {
		next.at = a.at
	}
	a.server, a.round = next, s.round
	s.waits = append(s.waits, a)
	return next.at, true
}

// place returns where a virtual server is to be that is not there yet. One that the last process has
// made for the same is taken over.
func (s *servers) place(before netip.AddrPort, next *server) (at netip.AddrPort, ok bool) {
	if s.within.Contains(before.Addr()) && !s.owned[before] {
		if held := s.held[id{before, next.protocol}]; held == nil || held.scheduler == next.scheduler {
			return before, true
		}
	}
	return s.numbers.take(func(at netip.AddrPort) bool {
		return s.owned[at] || slices.ContainsFunc(protocols, func(p cluster.Protocol) bool { return s.held[id{at, p}] != nil })
	})
}

// Keep implements nftables.Chooser.
func (s *servers) Keep(at netip.AddrPort, protocol cluster.Protocol) (endpoints []netip.AddrPort) {
	s.owned[at] = true
	if held := s.held[id{at, protocol}]; held != nil {
		for _, r := range held.reals {
			endpoints = append(endpoints, r.at)
		}
	}
	return endpoints
}

// Ready implements nftables.Chooser.
func (s *servers) Ready(ctx context.Context) error {
	_, err := s.come(ctx, 1<<30)
	return err
}

// come writes what comes, so many messages at most, and reports whether that was all.
func (s *servers) come(ctx context.Context, most int) (all bool, err error) {
	for len(s.waits) > 0 {
		n, err := s.comeTo(ctx, s.waits[0].server, most)
		if err != nil {
			return false, err
		}
		if most -= n; most <= 0 {
			return false, nil
		}
		s.waits = s.waits[1:]
	}
	s.waits = nil
	return true, nil
}

// comeTo writes what comes to one virtual server, and returns in how many messages.
func (s *servers) comeTo(ctx context.Context, wanted *server, most int) (messages int, err error) {
	held := s.held[wanted.id]
	if held == nil {
		if err := s.kernel.create(wanted); err != nil {
			return 0, err
		}
		messages++
		held = &server{id: wanted.id, scheduler: wanted.scheduler}
		s.held[wanted.id] = held
	}
	fresh, changed := coming(held, wanted)
	fresh = fresh[:min(len(fresh), most)]
	changed = changed[:min(len(changed), most-len(fresh))]
	messages += len(fresh) + len(changed)
	if len(fresh)+len(changed) == 0 {
		return messages, nil
	}
	unfit, err := s.addEach(ctx, wanted.id, fresh)
	if err != nil {
		return 0, err
	}
	if len(unfit) > 0 {
		fresh, wanted.reals = without(fresh, unfit), without(wanted.reals, unfit)
	}
	if err := s.each(ctx, wanted.id, changed, s.kernel.weigh); err != nil {
		return 0, err
	}
	if len(held.reals) == 0 && len(fresh) == len(wanted.reals) {
		s.held[wanted.id] = wanted // the most of all are new
	} else {
		s.held[wanted.id] = &server{id: held.id, scheduler: held.scheduler, reals: with(with(held.reals, fresh), changed)}
	}
	return messages, nil
}

// addEach adds endpoints, and returns those that the kernel takes for none: to it, an address that
// is the broadcast address of one of this node's networks, say (net/netfilter/ipvs/ip_vs_ctl.c,
// ip_vs_new_dest). It would say so again, and all other Services would wait for that.
func (s *servers) addEach(ctx context.Context, of id, all []real) (unfit []real, err error) {
	err = s.each(ctx, of, all, func(of id, r real) error {
		err := s.kernel.add(of, r)
		if errors.Is(err, unix.EINVAL) {
			unfit, err = append(unfit, r), nil
		}
		return err
	})
	return unfit, err
}

func (s *servers) each(ctx context.Context, of id, all []real, write func(id, real) error) error {
	for _, r := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := write(of, r); err != nil {
			return err
		}
	}
	return nil
}

// finish removes what a Service has and is not to have, so many messages at most: endpoints, and
// virtual servers that were not wanted since a round. It reports whether that was all.
func (s *servers) finish(ctx context.Context, service cluster.ServiceName, since, most int) (all bool, err error) {
	var stay []*assigned
	for _, a := range s.wanted[service] {
		if a.round >= since {
			stay = append(stay, a)
		} else if err := s.remove(a.id); err != nil {
			return false, err
		} else {
			delete(s.owned, a.at)
			delete(s.of, a.pooled)
		}
	}
	if s.wanted[service] = stay; stay == nil {
		delete(s.wanted, service)
	}
	for _, a := range stay {
		n, err := s.leave(ctx, a.server, most)
		if err != nil {
			return false, err
		}
		if most -= n; most <= 0 {
			return false, nil
		}
	}
	return true, nil
}

// leave removes endpoints that a virtual server is not to have. Connections to them go on: they are
// translated by what connection tracking knows of them, and never come to IPVS again.
func (s *servers) leave(ctx context.Context, wanted *server, most int) (messages int, err error) {
	held := s.held[wanted.id]
	if held == nil || held == wanted {
		return 0, nil
	}
	gone := going(held, wanted)
	gone = gone[:min(len(gone), most)]
	if err := s.each(ctx, wanted.id, gone, s.kernel.drop); err != nil {
		return 0, err
	}
	if rest := without(held.reals, gone); slices.Equal(rest, wanted.reals) {
		s.held[wanted.id] = wanted
	} else {
		s.held[wanted.id] = &server{id: held.id, scheduler: held.scheduler, reals: rest}
	}
	return len(gone), nil
}

// remove removes a virtual server with its endpoints, if it is there.
func (s *servers) remove(of id) error {
	if s.held[of] == nil {
		return nil
	}
	if err := s.kernel.remove(of); err != nil {
		return err
	}
	delete(s.held, of)
	return nil
}

// begin forgets what is wanted, for all that the kernel has.
func (s *servers) begin(held map[id]*server) {
	s.held, s.waits = held, nil
	clear(s.wanted)
	clear(s.of)
	clear(s.owned)
	s.round++
}

// end removes what nobody has, after a begin, and returns how many virtual servers that were.
func (s *servers) end(ctx context.Context) (removed int, err error) {
	for service := range s.wanted {
		if _, err := s.finish(ctx, service, s.round, 1<<30); err != nil {
			return removed, err
		}
	}
	for of := range s.held {
		if s.owned[of.at] {
			continue
		}
		if err := s.remove(of); err != nil {
			return removed, fmt.Errorf("what is nobody's: %w", err)
		}
		removed++
	}
	return removed, nil
}
