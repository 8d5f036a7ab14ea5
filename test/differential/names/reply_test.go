package names

import (
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// reply is what an answer means: the order of records, the serial of the zone and the
// letter case of names that are pointed to are left out, and of a truncated one all records.
type reply struct {
	rcode                    string
	flags                    string
	answer, authority, extra []string
	edns                     string
	truncated                bool
}

func (r reply) String() string {
	return fmt.Sprintf("%s [%s] answer %q authority %q extra %q edns %q", r.rcode, r.flags, r.answer, r.authority, r.extra, r.edns)
}

func (r reply) equal(o reply) bool { return r.String() == o.String() }

// passedOn stands for what the plugin behind answers. It fails where it has no answer,
// which cannot be told from a failure before it.
const passedOn = "passed on, or failed"

func canonical(m *dns.Msg) reply {
	r := reply{rcode: dns.RcodeToString[m.Rcode]}
	if m.Rcode == dns.RcodeServerFailure && len(m.Answer) == 0 || slices.ContainsFunc(m.Answer, fromBehind) {
		return reply{rcode: passedOn}
	}
	for _, f := range []struct {
		on   bool
		name string
	}{
		{m.Response, "qr"}, {m.Authoritative, "aa"}, {m.Truncated, "tc"}, {m.RecursionDesired, "rd"}, {m.RecursionAvailable, "ra"},
		{m.Zero, "z"}, {m.AuthenticatedData, "ad"}, {m.CheckingDisabled, "cd"},
	} {
		if f.on {
			r.flags += f.name + " "
		}
	}
	r.flags = strings.TrimSpace(r.flags)
	for _, q := range m.Question {
		r.flags += " " + q.String()
	}
	if opt := m.IsEdns0(); opt != nil {
		r.edns = fmt.Sprintf("version %d size %d do %v options %v", opt.Version(), opt.UDPSize(), opt.Do(), opt.Option)
	}
	r.truncated = m.Truncated
	if !m.Truncated {
		r.answer, r.authority, r.extra = records(m.Answer), records(m.Ns), records(m.Extra)
		for i, text := range r.extra {
			r.extra[i] = strings.ToLower(text)
		}
	}
	return r
}

// fromBehind reports whether a record is the erratic plugin's.
func fromBehind(rr dns.RR) bool {
	text := rr.String()
	return strings.HasSuffix(text, "\t192.0.2.53") || strings.HasSuffix(text, "\t2001:db8::53")
}

func records(all []dns.RR) []string {
	var out []string
	for _, rr := range all {
		switch rr := rr.(type) {
		case *dns.OPT:
			continue
		case *dns.SOA:
			rr.Serial, rr.Ns, rr.Mbox = 0, strings.ToLower(rr.Ns), strings.ToLower(rr.Mbox)
		case *dns.NS:
			rr.Ns = strings.ToLower(rr.Ns)
		case *dns.SRV:
			rr.Target = strings.ToLower(rr.Target)
		}
		out = append(out, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	slices.Sort(out)
	return out
}
