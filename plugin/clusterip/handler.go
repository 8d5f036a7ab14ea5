package clusterip

import (
	"context"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/upstream"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// Handler answers queries for the zones of one server block from a Store.
type Handler struct {
	// Next is called for names in other zones, and on fallthrough.
	Next plugin.Handler

	store    *cluster.Store
	index    *zone.Index
	options  Options
	search   []string // of this machine, for AutoPath
	outside  string   // the zone of k8s_external that PTR records lead to
	upstream upstreamer
	versions versions
	// ready and stale are those of the source.
	ready func() bool
	stale func() bool

	unsubscribe func() // stops following the Store

	inFront []plugin.Handler // of this one in the chain, the first of all first

	ending ending
}

// upstreamer looks up names that are not ours.
type upstreamer interface {
	Lookup(ctx context.Context, state request.Request, name string, qtype uint16) (*dns.Msg, error)
}

// New returns a Handler that answers from a Store, and SERVFAIL until a source
// has filled it. The addresses are those the server listens on.
func New(o Options, store *cluster.Store, own []netip.Addr) *Handler {
	h := &Handler{
		store:    store,
		index:    o.Index(own),
		options:  o,
		search:   hostSearchPath("/etc/resolv.conf"),
		upstream: upstream.New(),
		ready:    store.HasSynced,
		stale:    func() bool { return false },
	}
	h.unsubscribe = store.Subscribe(h.apply)
	return h
}

// Name implements plugin.Handler.
func (h *Handler) Name() string { return pluginName }

// ServeDNS implements plugin.Handler. CoreDNS passes on messages with exactly
// one question, of class IN, and fits what is written to the client's buffer.
func (h *Handler) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	question := r.Question[0]
	name := zone.Lower(question.Name)
	z := h.index.Match(name)
	if z == nil {
		return plugin.NextOrFailure(pluginName, h.Next, ctx, w, r)
	}
	if r.Opcode != dns.OpcodeQuery {
		return dns.RcodeNotImplemented, nil
	}
	// The transfer plugin, which comes first, has not taken it.
	if question.Qtype == dns.TypeAXFR || question.Qtype == dns.TypeIXFR {
		return dns.RcodeRefused, nil
	}
	// Before the first sync, nothing is known not to exist: no NXDOMAIN, and no
	// fallthrough that would ask strangers for names of the cluster.
	if !h.store.HasSynced() {
		answersBy[zone.NotReady].Inc()
		return notReady(w, r), nil
	}

	answer := z.Lookup(name, question.Qtype, h.serial())
	if answer.Outcome == zone.NXDomain && h.through(name) {
		return plugin.NextOrFailure(pluginName, h.Next, ctx, w, r)
	}
	state := request.Request{W: w, Req: r}
	answersBy[answer.Outcome].Inc()
	h.miss(state, answer.Lack)
	if name != question.Name {
		answer = answer.InCaseOf(question.Name)
	}
	m := newReply(r, answer)
	if answer.Alias != "" {
		h.follow(ctx, state, m, answer.Alias)
	}
	if r.IsEdns0() != nil && h.stale() {
		m.Extra = append(slices.Clip(m.Extra), extendedError(staleCode(m.Rcode)))
	}
	w.WriteMsg(m)
	return dns.RcodeSuccess, nil
}

// staleCode is the extended error of an answer from what may have changed since.
func staleCode(rcode int) uint16 {
	if rcode == dns.RcodeNameError {
		return dns.ExtendedErrorCodeStaleNXDOMAINAnswer
	}
	return dns.ExtendedErrorCodeStaleAnswer
}

// extendedError returns the OPT record of a reply that says why it is as it is (RFC
// 8914). The server fills in the rest of it.
func extendedError(code uint16) *dns.OPT {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: code}}
	return opt
}

// notReady makes the reply SERVFAIL and tells a client that speaks EDNS why
// (RFC 8914). Without EDNS the server writes it.
func notReady(w dns.ResponseWriter, r *dns.Msg) (code int) {
	if r.IsEdns0() == nil {
		return dns.RcodeServerFailure
	}
	m := new(dns.Msg).SetRcode(r, dns.RcodeServerFailure)
	m.Extra = []dns.RR{extendedError(dns.ExtendedErrorCodeNotReady)}
	w.WriteMsg(m)
	return dns.RcodeSuccess // it is written
}

// through does what fall.F.Through does, without allocating: most queries that a
// search path makes end here.
func (h *Handler) through(name string) bool {
	return slices.ContainsFunc(h.options.Fall.Zones, func(origin string) bool { return zone.Contains(origin, name) })
}

// serial is the SOA serial of a state that the Index has, or has passed by now: who
// reads it first finds no older one there.
func (h *Handler) serial() uint32 { return h.versions.serial.Load() }

// newReply makes the reply in one allocation, which SetReply does not.
func newReply(r *dns.Msg, a zone.Answer) *dns.Msg {
	m := &struct {
		dns.Msg
		question [1]dns.Question
	}{question: [1]dns.Question{r.Question[0]}}
	m.Id, m.Opcode, m.Response, m.Authoritative = r.Id, r.Opcode, true, true
	m.RecursionDesired, m.CheckingDisabled = r.RecursionDesired, r.CheckingDisabled
	m.Rcode = rcode(a.Outcome)
	m.Question = m.question[:]
	m.Answer, m.Ns, m.Extra = a.Answer, a.Authority, a.Extra
	return &m.Msg
}

func rcode(o zone.Outcome) int {
	if o == zone.NXDomain {
		return dns.RcodeNameError
	}
	return dns.RcodeSuccess
}
