package clusterip

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"

	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/plugin/acl"
	"github.com/infobloxopen/go-trees/iptree"
	"github.com/miekg/dns"
)

// aclRule is a rule of the acl plugin. The fast path decides with it who is allowed, and
// leaves all others to the plugin.
type aclRule struct {
	zones    []string
	policies []aclPolicy
}

type aclPolicy struct {
	allow bool
	types map[uint16]bool // nil is all
	nets  []netip.Prefix  // none in another, sorted
}

// aclAllow is the number of the action "allow" in the acl plugin.
const aclAllow = 1

// readACL reads rules that the plugin does not show. It is false if they are not as they
// were when this was written.
func readACL(a acl.ACL) (rules []aclRule, ok bool) {
	for i := range a.Rules {
		rule := reflect.ValueOf(a.Rules[i])
		zones, policies := rule.FieldByName("zones"), rule.FieldByName("policies")
		if zones.Kind() != reflect.Slice || policies.Kind() != reflect.Slice {
			return nil, false
		}
		var r aclRule
		for k := range zones.Len() {
			r.zones = append(r.zones, zones.Index(k).String())
		}
		for k := range policies.Len() {
			p, ok := readPolicy(policies.Index(k))
			if !ok {
				return nil, false
			}
			r.policies = append(r.policies, p)
		}
		rules = append(rules, r)
	}
	return rules, true
}

func readPolicy(v reflect.Value) (p aclPolicy, ok bool) {
	action, types, filter := v.FieldByName("action"), v.FieldByName("qtypes"), v.FieldByName("filter")
	if action.Kind() != reflect.Int || types.Kind() != reflect.Map || filter.Kind() != reflect.Pointer || filter.Type() != reflect.TypeFor[*iptree.Tree]() {
		return p, false
	}
	p.allow = action.Int() == aclAllow
	p.types = make(map[uint16]bool)
	for _, t := range types.MapKeys() {
		p.types[uint16(t.Uint())] = true
	}
	if p.types[dns.TypeNone] {
		p.types = nil
	}
	for pair := range (*iptree.Tree)(filter.UnsafePointer()).Enumerate() {
		if addr, ok := netip.AddrFromSlice(pair.Key.IP); ok {
			bits, _ := pair.Key.Mask.Size()
			p.nets = append(p.nets, netip.PrefixFrom(addr, bits))
		}
	}
	p.nets = outermost(p.nets)
	return p, true
}

// outermost sorts prefixes and leaves out those in others.
func outermost(nets []netip.Prefix) []netip.Prefix {
	slices.SortFunc(nets, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var out []netip.Prefix
	for _, n := range nets {
		if len(out) == 0 || !out[len(out)-1].Overlaps(n) {
			out = append(out, n)
		}
	}
	return out
}

func (p *aclPolicy) matches(qtype uint16, client netip.Addr) bool {
	if p.types != nil && !p.types[qtype] {
		return false
	}
	at, found := slices.BinarySearchFunc(p.nets, client, func(n netip.Prefix, ip netip.Addr) int { return n.Addr().Compare(ip) })
	return found || at > 0 && p.nets[at-1].Contains(client)
}

// allows reports whether the acl plugin lets a question pass. It goes through the rules as
// the plugin does: the first policy that matches decides for its rule, and "allow" ends
// the search.
func allows(rules []aclRule, q *wire.Question, client netip.Addr) bool {
	client = client.Unmap().WithZone("")
	for i := range rules {
		r := &rules[i]
		if !slices.ContainsFunc(r.zones, func(z string) bool { return zone.Contains(z, q.Name) }) {
			continue
		}
		for k := range r.policies {
			if p := &r.policies[k]; p.matches(q.Type, client) {
				return p.allow
			}
		}
	}
	return true
}
