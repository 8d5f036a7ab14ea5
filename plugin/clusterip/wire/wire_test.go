package wire

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

func FuzzParse(f *testing.F) {
	for _, r := range []*dns.Msg{
		new(dns.Msg).SetQuestion("Web.Default.svc.cluster.local.", dns.TypeA),
		new(dns.Msg).SetQuestion("_http._tcp.web.default.svc.cluster.local.", dns.TypeSRV).SetEdns0(1232, true),
		new(dns.Msg).SetQuestion(`a\.b.`, dns.TypeA),
		new(dns.Msg).SetQuestion(strings.Repeat(strings.Repeat("x", 49)+".", 5), dns.TypeAAAA).SetEdns0(1, false),
	} {
		packed, err := r.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packed)
	}
	var q Question // is used again
	f.Fuzz(func(t *testing.T, query []byte) {
		if !q.Parse(query) {
			return
		}
		m := new(dns.Msg)
		if err := m.Unpack(query); err != nil {
			t.Fatalf("%x is taken: %v", query, err)
		}
		asked, opt := m.Question[0], m.IsEdns0()
		if q.Name != strings.ToLower(asked.Name) || q.Type != asked.Qtype || asked.Qclass != dns.ClassINET || m.Opcode != dns.OpcodeQuery || m.Response {
			t.Errorf("%x is read as %s %d", query, q.Name, q.Type)
		}
		if q.EDNS != (opt != nil) || q.DO != (opt != nil && opt.Do()) || opt != nil && q.Size != max(minSize, int(opt.UDPSize())) || opt == nil && q.Size != minSize {
			t.Errorf("EDNS of %x is read as %v, DO %v, size %d", query, q.EDNS, q.DO, q.Size)
		}
	})
}

// TestParseLeaves has what is not plain, each made of a query that is.
func TestParseLeaves(t *testing.T) {
	plain, err := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).SetEdns0(1232, true).Pack()
	if err != nil {
		t.Fatal(err)
	}
	opt := len(plain) - optLen
	var q Question
	if !q.Parse(plain) {
		t.Fatal("a plain query is left to others")
	}
	for what, change := range map[string]func([]byte) []byte{
		"a reply":               func(m []byte) []byte { m[2] |= 0x80; return m },
		"another opcode":        func(m []byte) []byte { m[2] |= 0x20; return m },
		"reserved flag":         func(m []byte) []byte { m[3] |= 0x40; return m },
		"two questions":         func(m []byte) []byte { m[5] = 2; return m },
		"no question":           func(m []byte) []byte { m[5] = 0; return m },
		"an answer":             func(m []byte) []byte { m[7] = 1; return m },
		"two additional":        func(m []byte) []byte { m[11] = 2; return m },
		"class CH":              func(m []byte) []byte { m[opt-1] = 3; return m },
		"EDNS version 1":        func(m []byte) []byte { m[opt+6] = 1; return m },
		"unknown flag of EDNS":  func(m []byte) []byte { m[opt+8] = 1; return m },
		"more behind":           func(m []byte) []byte { return append(m, 0) },
		"cut":                   func(m []byte) []byte { return m[:len(m)-1] },
		"cut in the name":       func(m []byte) []byte { return m[:20] },
		"a pointer in the name": func(m []byte) []byte { m[headerLen] = 0xc0; return m },
		"a space in the name":   func(m []byte) []byte { m[headerLen+1] = ' '; return m },
		"client subnet":         func(m []byte) []byte { m[len(m)-1] = 4; return append(m, 0, 8, 0, 0) },
	} {
		if q.Parse(change(append([]byte(nil), plain...))) {
			t.Errorf("a query with %s is taken", what)
		}
	}
}

// TestDealIsFair deals three cards often: each order comes as often as any other.
func TestDealIsFair(t *testing.T) {
	var r Reply
	seen := make(map[[3]int]int)
	const rounds = 60_000
	for range rounds {
		r.Deal(3, true)
		seen[[3]int{r.Next(0), r.Next(1), r.Next(2)}]++
	}
	if len(seen) != 6 {
		t.Errorf("%d orders of 6", len(seen))
	}
	for order, n := range seen {
		if n < rounds/6*9/10 || n > rounds/6*11/10 {
			t.Errorf("%v came %d times of %d", order, n, rounds)
		}
	}
}

func TestTruncation(t *testing.T) {
	query, err := new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q Question
	var r Reply
	q.Parse(query)
	r.Begin(nil, query, &q)
	if !r.Expect(1000*(len(q.Name)+1+10+4), true) {
		t.Fatal("addresses cannot be written")
	}
	wrote := 0
	for r.Address(r.Owner, 5, netip.MustParseAddr("10.0.0.1")) {
		wrote++
	}
	m := new(dns.Msg)
	if err := m.Unpack(r.Finish(dns.RcodeSuccess)); err != nil {
		t.Fatal(err)
	}
	if want := (minSize - len(query)) / 16; !m.Truncated || len(m.Answer) != want || wrote != want {
		t.Errorf("%d records, %d of them arrived, truncated: %v; want %d", wrote, len(m.Answer), m.Truncated, want)
	}
}
