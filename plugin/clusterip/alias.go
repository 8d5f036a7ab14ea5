package clusterip

import (
	"context"
	"slices"

	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// maxAliases bounds a chain of CNAMEs, as CoreDNS does.
const maxAliases = 10

// follow completes a reply that holds a CNAME with what its target has. The
// response code becomes that of the last name looked up (RFC 6604); the CNAMEs
// stay in the answer whatever it is. A chain that loops or is too long is
// SERVFAIL.
func (h *Handler) follow(ctx context.Context, state request.Request, m *dns.Msg, alias string) {
	for range maxAliases {
		name := zone.Lower(alias)
		if isOwner(m.Answer, name) {
			break
		}
		z := h.index.Match(name)
		if z == nil {
			h.ask(ctx, state, m, alias)
			return
		}
		answer := z.Lookup(name, state.QType(), h.serial())
		if answer.Outcome == zone.NXDomain && h.through(name) {
			h.ask(ctx, state, m, alias)
			return
		}
		if name != alias {
			answer = answer.InCaseOf(alias)
		}
		m.Answer = append(m.Answer, answer.Answer...)
		if answer.Alias == "" {
			m.Rcode, m.Ns, m.Extra = rcode(answer.Outcome), answer.Authority, answer.Extra
			return
		}
		alias = answer.Alias
	}
	m.Rcode = dns.RcodeServerFailure
}

func isOwner(rrs []dns.RR, name string) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool { return zone.Lower(rr.Header().Name) == name })
}

// ask has the server look up a target that is not ours. Where it resolves no
// such names (it refuses), the CNAME alone is the answer, as RFC 1034 section
// 4.3.2 has it for a server without recursion.
func (h *Handler) ask(ctx context.Context, state request.Request, m *dns.Msg, target string) {
	// The server could come back to us with each lookup: count the rounds.
	round, _ := ctx.Value(dnsserver.LoopKey{}).(int)
	if round >= maxAliases {
		m.Rcode = dns.RcodeServerFailure
		return
	}
	ctx = context.WithValue(ctx, dnsserver.LoopKey{}, round+1)
	found, err := h.upstream.Lookup(ctx, state, target, state.QType())
	if err != nil || found == nil || found.Rcode == dns.RcodeRefused {
		return
	}
	m.Answer = append(m.Answer, found.Answer...)
	m.Rcode, m.Truncated = found.Rcode, found.Truncated
	if len(found.Answer) == 0 {
		m.Ns = found.Ns
	}
}
