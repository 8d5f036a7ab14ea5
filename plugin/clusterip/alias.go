package clusterip

import (
	"context"
	"slices"

	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

const (
	// maxAliases bounds a chain of CNAMEs. CoreDNS follows 11 in a zone, and begins anew
	// where one leads to another zone.
	maxAliases = 32
	// maxRounds bounds how often a lookup for one question leaves our zones and comes back.
	// CoreDNS's file plugin, which may be what it comes back from, takes part in nine.
	maxRounds = 10
)

// roundsKey is the context key of how many rounds there were. Other plugins count their
// own.
type roundsKey struct{}

// follow completes a reply that holds a CNAME with what its target has. The
// response code becomes that of the last name looked up (RFC 6604); the CNAMEs
// stay in the answer whatever it is. A chain that loops or is too long leads nowhere:
// there is no data, as with CoreDNS. SERVFAIL would have clients ask again at once.
func (h *Handler) follow(ctx context.Context, state request.Request, m *dns.Msg, alias string) {
	for len(m.Answer) <= maxAliases {
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
		h.miss(state, answer.Lack)
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
	question := m.Question[0].Name
	z := h.index.Match(zone.Lower(question))
	nothing := zone.Answer{Outcome: zone.NoData, Authority: z.SOA(h.serial())}.InCaseOf(question)
	m.Answer, m.Ns, m.Extra = nil, nothing.Authority, nil
}

func isOwner(rrs []dns.RR, name string) bool {
	return slices.ContainsFunc(rrs, func(rr dns.RR) bool { return zone.Lower(rr.Header().Name) == name })
}

// ask has the server look up a target that is not ours. Where it resolves no
// such names (it refuses), the CNAME alone is the answer, as RFC 1034 section
// 4.3.2 has it for a server without recursion.
func (h *Handler) ask(ctx context.Context, state request.Request, m *dns.Msg, target string) {
	// The server could come back to us with each lookup: count the rounds.
	round, _ := ctx.Value(roundsKey{}).(int)
	if round >= maxRounds {
		m.Rcode = dns.RcodeServerFailure
		return
	}
	ctx = context.WithValue(ctx, roundsKey{}, round+1)
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
