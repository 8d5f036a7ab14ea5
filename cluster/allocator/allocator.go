// Package allocator gives Services their ClusterIPs where no API server does:
// by the rules of kube-apiserver, from one or several CIDRs of each family.
//
// Two things differ from kube-apiserver. What is held is remembered in a file instead of
// etcd. And a dynamic address is not random: the search starts where a hash of the
// Service's namespace and name points. So machines which read the same manifests mostly
// agree without talking. When the file is lost or corrupt nearly every Service gets the
// same address anew, and the kernel's rules need not be read back for it.
//
// Allocator is a plain data structure: it does no I/O and has no locks, and
// needs memory for what is held only, however large the CIDR. ReadState and
// WriteState are the file. Start with Sync.
package allocator

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// A Claim is what one Service asks for.
type Claim struct {
	Service cluster.ServiceName
	// Families are the families it is to have an address of, the primary
	// first; see Families.
	Families []cluster.Family
	// Static are the addresses it demands (spec.clusterIPs), at most one of
	// each of Families. For the other families any address will do.
	Static []netip.Addr
	// Created decides between Services that demand one address: the oldest
	// wins. The zero value means unknown and loses.
	Created time.Time
}

// Allocations says which addresses each Service holds, the primary first.
type Allocations map[cluster.ServiceName][]netip.Addr

// Allocator knows which Service holds which address. No address ever has two
// holders.
type Allocator struct {
	ranges  []*addressRange
	held    Allocations
	holders map[netip.Addr]cluster.ServiceName
}

// maxRanges is how many CIDRs there may be: each takes rules of the kernel, and a search.
const maxRanges = 64

// New returns an Allocator for some CIDRs; the family of the first is the default. Of
// several of one family the first has its addresses given first (KEP-1880 leaves that
// open). It fails on a CIDR that kube-apiserver would refuse (IPv6 shorter than /64), on
// one without a usable address, and where one is a part of another.
func New(cidrs []netip.Prefix) (*Allocator, error) {
	a := &Allocator{held: Allocations{}, holders: map[netip.Addr]cluster.ServiceName{}}
	if len(cidrs) == 0 || len(cidrs) > maxRanges {
		return nil, fmt.Errorf("%d service CIDRs given: give from 1 to %d", len(cidrs), maxRanges)
	}
	for _, cidr := range cidrs {
		r, err := newRange(cidr)
		if err != nil {
			return nil, err
		}
		for _, other := range a.ranges {
			if other.prefix.Overlaps(r.prefix) {
				return nil, fmt.Errorf("service CIDRs %s and %s have addresses in common: keep the larger one", other.prefix, r.prefix)
			}
		}
		a.ranges = append(a.ranges, r)
	}
	return a, nil
}

// Families lists the families it has a CIDR for, the default first.
func (a *Allocator) Families() []cluster.Family {
	var families []cluster.Family
	for _, r := range a.ranges {
		if !slices.Contains(families, r.family) {
			families = append(families, r.family)
		}
	}
	return families
}

// Held returns the addresses of a Service, the primary first. The slice is not
// to be written to.
func (a *Allocator) Held(service cluster.ServiceName) []netip.Addr { return a.held[service] }

// Allocations returns all that is held. The slices are shared and not to be
// written to; they do not change later.
func (a *Allocator) Allocations() Allocations {
	return maps.Clone(a.held)
}

// Restore takes over what was held before a restart. What cannot be held (any
// more) is left out, with an error for each.
func (a *Allocator) Restore(allocations Allocations) []error {
	var errs []error
	for _, service := range sortedNames(allocations) {
		for _, addr := range allocations[service] {
			err := a.check(service, addr)
			if err == nil && ofFamily(a.held[service], cluster.FamilyOf(addr)).IsValid() {
				err = fmt.Errorf("%s is a second address of its family", addr)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("the address remembered for Service %s is dropped: %w", service, err))
				continue
			}
			a.take(service, addr)
		}
	}
	return errs
}

// Sync makes what is held fit the claims and returns what is wrong with a claim,
// by Service. A Service keeps what it holds as long as its claim allows. One
// whose demand fails goes on with what it held before, if anything.
//
// Services without a claim lose their addresses; those that keep names lose them
// only to a Service that demands one, or that none is left for. That is for Services
// whose claim stands where it cannot be read. A nil keep names none.
//
// The order of the claims does not matter.
func (a *Allocator) Sync(claims []Claim, keep func(cluster.ServiceName) bool) map[cluster.ServiceName]error {
	claims = slices.Clone(claims)
	slices.SortFunc(claims, func(x, y Claim) int { return x.Service.Compare(y.Service) })
	s := &syncing{Allocator: a, claimed: make(map[cluster.ServiceName]bool, len(claims)), errs: map[cluster.ServiceName]error{}}
	for i := range claims {
		s.claimed[claims[i].Service] = true
	}
	s.releaseAbsent(keep)
	given := map[cluster.ServiceName][]netip.Addr{}
	for i := range claims {
		if released := s.releaseUnwanted(&claims[i]); len(released) > 0 {
			given[claims[i].Service] = released
		}
	}
	s.takeStatic(claims)
	for i := range claims {
		s.regain(&claims[i], given[claims[i].Service])
	}
	for i := range claims {
		s.takeDynamic(&claims[i])
		a.order(&claims[i])
	}
	return s.errs
}

// syncing is the state of one call of Sync.
type syncing struct {
	*Allocator
	claimed map[cluster.ServiceName]bool
	errs    map[cluster.ServiceName]error
	// absent are the addresses held without a claim, in the order in which they
	// are given up; nil until one is needed.
	absent map[cluster.Family][]netip.Addr
}

func (s *syncing) fail(service cluster.ServiceName, err error) {
	s.errs[service] = errors.Join(s.errs[service], err)
}

func (s *syncing) releaseAbsent(keep func(cluster.ServiceName) bool) {
	for service := range s.held {
		if !s.claimed[service] && (keep == nil || !keep(service)) {
			s.release(service, s.held[service]...)
		}
	}
}

// releaseUnwanted frees the addresses that a claim no longer covers, before
// anyone takes one, so that Services can exchange addresses in one step.
func (s *syncing) releaseUnwanted(c *Claim) []netip.Addr {
	var unwanted []netip.Addr
	for _, addr := range s.held[c.Service] {
		family := cluster.FamilyOf(addr)
		static := ofFamily(c.Static, family)
		if !slices.Contains(c.Families, family) || static.IsValid() && static != addr {
			unwanted = append(unwanted, addr)
		}
	}
	s.release(c.Service, unwanted...)
	return unwanted
}

// takeStatic settles the demands for certain addresses: who holds one keeps it,
// then the older Service goes first, then the one whose name sorts first.
func (s *syncing) takeStatic(claims []Claim) {
	type demand struct {
		claim *Claim
		addr  netip.Addr
	}
	var demands []demand
	for i := range claims {
		for _, addr := range claims[i].Static {
			if s.holders[addr] != claims[i].Service {
				demands = append(demands, demand{&claims[i], addr})
			}
		}
	}
	slices.SortStableFunc(demands, func(x, y demand) int { return compareAge(x.claim.Created, y.claim.Created) })
	for _, d := range demands {
		if holder, taken := s.holders[d.addr]; taken && !s.claimed[holder] {
			s.release(holder, d.addr)
		}
		if err := s.check(d.claim.Service, d.addr); err != nil {
			s.fail(d.claim.Service, fmt.Errorf("spec.clusterIP %w: choose another address, or leave the field out", err))
			continue
		}
		s.take(d.claim.Service, d.addr)
	}
}

// compareAge puts the older first, and the unknown last.
func compareAge(x, y time.Time) int {
	if x.IsZero() != y.IsZero() {
		if x.IsZero() {
			return 1
		}
		return -1
	}
	return x.Compare(y)
}

// regain gives a Service whose demand failed its former address back.
func (s *syncing) regain(c *Claim, given []netip.Addr) {
	for _, addr := range given {
		family := cluster.FamilyOf(addr)
		satisfied := ofFamily(s.held[c.Service], family).IsValid()
		if !s.isHeld(addr) && !satisfied && slices.Contains(c.Families, family) {
			s.take(c.Service, addr)
		}
	}
}

func (s *syncing) takeDynamic(c *Claim) {
	for _, family := range c.Families {
		if ofFamily(s.held[c.Service], family).IsValid() {
			continue
		}
		if ofFamily(c.Static, family).IsValid() {
			continue // the demand was refused
		}
		if !slices.ContainsFunc(s.ranges, func(r *addressRange) bool { return r.family == family }) {
			s.fail(c.Service, fmt.Errorf("there is no %s service CIDR: add one to service_cidr, or change spec.ipFamilies", family))
			continue
		}
		r := s.roomy(family)
		if r == nil && s.releaseOneAbsent(family) {
			r = s.roomy(family)
		}
		if r == nil {
			s.fail(c.Service, fmt.Errorf("no %s ClusterIP is left in %s: delete Services, or add a CIDR to service_cidr", family, s.written()))
			continue
		}
		s.take(c.Service, r.free(c.Service, s.isHeld))
	}
}

// releaseOneAbsent makes room for a Service that is there, at the cost of one that
// may not be. It reports whether there was such a one.
func (s *syncing) releaseOneAbsent(family cluster.Family) bool {
	if s.absent == nil {
		s.absent = map[cluster.Family][]netip.Addr{}
		for _, service := range sortedNames(s.held) {
			if s.claimed[service] {
				continue
			}
			for _, addr := range s.held[service] {
				s.absent[cluster.FamilyOf(addr)] = append(s.absent[cluster.FamilyOf(addr)], addr)
			}
		}
	}
	if len(s.absent[family]) == 0 {
		return false
	}
	addr := s.absent[family][0]
	s.absent[family] = s.absent[family][1:]
	s.release(s.holders[addr], addr)
	return true
}

// order puts the addresses of a Service in the order of its families.
func (a *Allocator) order(c *Claim) {
	byFamily := func(x, y netip.Addr) int {
		return cmp.Compare(slices.Index(c.Families, cluster.FamilyOf(x)), slices.Index(c.Families, cluster.FamilyOf(y)))
	}
	if held := a.held[c.Service]; !slices.IsSortedFunc(held, byFamily) {
		a.held[c.Service] = slices.SortedFunc(slices.Values(held), byFamily)
	}
}

// check says why a Service cannot take an address.
func (a *Allocator) check(service cluster.ServiceName, addr netip.Addr) error {
	r := a.rangeAt(addr)
	if r == nil {
		return &Misfit{Family: cluster.FamilyOf(addr), Addrs: []netip.Addr{addr}, text: fmt.Sprintf("%s is outside the service CIDR %s", addr, a.written())}
	}
	if _, usable := r.index(addr); !usable {
		return fmt.Errorf("%s is the network or broadcast address of %s", addr, r.prefix)
	}
	if holder, taken := a.holders[addr]; taken && holder != service {
		return fmt.Errorf("%s is taken by Service %s", addr, holder)
	}
	return nil
}

// take and release never change a slice in place: Held and Allocations handed
// them out.
func (a *Allocator) take(service cluster.ServiceName, addr netip.Addr) {
	a.holders[addr] = service
	a.held[service] = append(slices.Clip(a.held[service]), addr)
	a.rangeAt(addr).count(addr, 1)
}

func (a *Allocator) release(service cluster.ServiceName, addrs ...netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	for _, addr := range addrs {
		delete(a.holders, addr)
		a.rangeAt(addr).count(addr, -1)
	}
	rest := slices.DeleteFunc(slices.Clone(a.held[service]), func(addr netip.Addr) bool { return !a.isHeld(addr) })
	if len(rest) == 0 {
		delete(a.held, service)
	} else {
		a.held[service] = rest
	}
}

func (a *Allocator) isHeld(addr netip.Addr) bool {
	_, held := a.holders[addr]
	return held
}

// rangeAt returns the range that has an address, or nil.
func (a *Allocator) rangeAt(addr netip.Addr) *addressRange {
	for _, r := range a.ranges {
		if r.prefix.Contains(addr) {
			return r
		}
	}
	return nil
}

// roomy returns the first range of a family that has an address left, or nil.
func (a *Allocator) roomy(family cluster.Family) *addressRange {
	for _, r := range a.ranges {
		if r.family == family && !r.isFull() {
			return r
		}
	}
	return nil
}

// written are the ranges, in words.
func (a *Allocator) written() string {
	var all []string
	for _, r := range a.ranges {
		all = append(all, r.prefix.String())
	}
	return strings.Join(all, " ")
}

// ofFamily returns the first address of a family; the zero Addr if there is none.
func ofFamily(addrs []netip.Addr, family cluster.Family) netip.Addr {
	for _, addr := range addrs {
		if cluster.FamilyOf(addr) == family {
			return addr
		}
	}
	return netip.Addr{}
}
