package conformance

import (
	"strconv"
	"strings"
	"testing"
)

func TestRFC1034_Apex(t *testing.T) {
	runCases(t, []testCase{
		{"cluster.local SOA", "NOERROR qr aa rd\n" + apexSOA},
		{"cluster.local NS", `
NOERROR qr aa rd
cluster.local. 5 IN NS ns.dns.cluster.local.
additional
ns.dns.cluster.local. 5 IN A 127.0.0.1`},
		{"CLUSTER.local NS", `
NOERROR qr aa rd
CLUSTER.local. 5 IN NS ns.dns.cluster.local.
additional
ns.dns.cluster.local. 5 IN A 127.0.0.1`},
		{"ns.dns.cluster.local A", `
NOERROR qr aa rd
ns.dns.cluster.local. 5 IN A 127.0.0.1`},
		{"cluster.local A", noData},
		{"in-addr.arpa PTR", "NOERROR qr aa rd" + reverseSOA},
	})
}

func TestRFC1035_Flags(t *testing.T) {
	runCases(t, []testCase{
		// RD is copied, and there is no recursion to offer.
		{"+norecurse web.testing.svc.cluster.local A", `
NOERROR qr aa
web.testing.svc.cluster.local. 5 IN A 10.43.0.10`},
		// RFC 4035: CD is copied; AD is not ours to set.
		{"+cdflag +noadflag web.testing.svc.cluster.local A", `
NOERROR qr aa rd cd
web.testing.svc.cluster.local. 5 IN A 10.43.0.10`},
		// RFC 1035 section 4.1.1: not our zone, and we do not recurse.
		{"www.example.org A", "REFUSED qr rd"},
		{"-c CH version.bind TXT", "REFUSED qr rd"},
	})
}

func TestRFC2308_NegativeAnswers(t *testing.T) {
	runCases(t, []testCase{
		{"nope.testing.svc.cluster.local A", nxDomain},
		{"nope.cluster.local A", nxDomain},
		// A search path makes such names of outside ones.
		{"www.example.com.testing.svc.cluster.local A", nxDomain},
		// A type nobody has heard of is no reason to be NOTIMP.
		{"web.testing.svc.cluster.local MX", noData},
		{"web.testing.svc.cluster.local HTTPS", noData},
		{"web.testing.svc.cluster.local DS", noData},
		{"web.testing.svc.cluster.local TYPE65280", noData},
	})
}

func TestRFC8020_EmptyNonTerminals(t *testing.T) {
	var cases []testCase
	for _, name := range []string{
		"svc.cluster.local", "pod.cluster.local", "dns.cluster.local", "testing.svc.cluster.local", "empty.svc.cluster.local",
		"testing.pod.cluster.local", "_tcp.web.testing.svc.cluster.local", "_udp.dual.testing.svc.cluster.local",
	} {
		cases = append(cases, testCase{name + " A", noData}, testCase{name + " TXT", noData})
	}
	for _, name := range []string{"10.in-addr.arpa", "43.10.in-addr.arpa", "0.43.10.in-addr.arpa"} {
		cases = append(cases, testCase{name + " PTR", "NOERROR qr aa rd" + reverseSOA})
	}
	for _, name := range []string{"nowhere.svc.cluster.local", "nowhere.pod.cluster.local", "_udp.web.testing.svc.cluster.local"} {
		cases = append(cases, testCase{name + " A", nxDomain})
	}
	cases = append(cases, testCase{"44.10.in-addr.arpa PTR", "NXDOMAIN qr aa rd" + reverseSOA})
	runCases(t, cases)
}

func TestRFC4343_QuestionKeepsItsCase(t *testing.T) {
	a := dig(t, "wEb.testing.SVC.cluster.local", "AAAA")
	if want := "wEb.testing.SVC.cluster.local. IN AAAA"; len(a.question) != 1 || a.question[0] != want {
		t.Errorf("question %q, want %q", a.question, want)
	}
}

func TestRFC8482_Any(t *testing.T) {
	runCases(t, []testCase{
		{"+tcp db-0.db.testing.svc.cluster.local ANY", `
NOERROR qr aa rd
db-0.db.testing.svc.cluster.local. 5 IN A 10.42.0.70`},
	})
}

func TestRFC6891_EDNS(t *testing.T) {
	for _, c := range []struct {
		query, status, edns string
	}{
		{"+edns=0 +bufsize=1400", "NOERROR", "version: 0, flags:; udp: 1400"},
		{"+edns=0 +bufsize=1400 +dnssec", "NOERROR", "version: 0, flags: do; udp: 1400"},
		{"+edns=0 +bufsize=1400 +ednsopt=65001:c0ffee", "NOERROR", "version: 0, flags:; udp: 1400"},
		{"+edns=0 +bufsize=1400 +ednsflags=0x40", "NOERROR", "version: 0, flags:; udp: 1400"},
		{"+edns=1 +noednsnegotiation +bufsize=1400", "BADVERS", "version: 0, flags:; udp: "},
		{"+noedns", "NOERROR", ""},
	} {
		t.Run(c.query, func(t *testing.T) {
			a := dig(t, append(strings.Fields(c.query), "+nocookie", "web.testing.svc.cluster.local", "A")...)
			if a.status != c.status || !strings.HasPrefix(a.edns, c.edns) || (a.edns == "") != (c.edns == "") {
				t.Errorf("got %s, EDNS %q; want %s, EDNS %q...", a.status, a.edns, c.status, c.edns)
			}
		})
	}
}

// RFC 2181 section 9 and RFC 7766: what does not fit is cut off with TC set, and
// whole over TCP.
func TestRFC7766_LargeAnswers(t *testing.T) {
	const endpoints = 100
	for _, c := range []struct {
		query string
		whole bool
		limit int
	}{
		{"+noedns +ignore", false, 512},
		{"+edns=0 +bufsize=1232 +ignore", false, 1232},
		{"+edns=0 +bufsize=4096 +ignore", true, 4096},
		{"+noedns", true, 65535}, // dig goes on to TCP
		{"+noedns +tcp", true, 65535},
	} {
		t.Run(c.query, func(t *testing.T) {
			a := dig(t, append(strings.Fields(c.query), "+nocookie", "crowd.testing.svc.cluster.local", "A")...)
			size, err := strconv.Atoi(a.size)
			if err != nil || size > c.limit {
				t.Errorf("the answer has %q bytes, want at most %d", a.size, c.limit)
			}
			if tc := strings.Contains(a.flags, "tc"); tc == c.whole {
				t.Errorf("flags %q, want TC %v", a.flags, !c.whole)
			}
			if n := len(a.answer); (n == endpoints) != c.whole || n == 0 {
				t.Errorf("%d addresses, want all %d: %v", n, endpoints, c.whole)
			}
		})
	}
}

func TestRFC7766_SameAnswersOverTCP(t *testing.T) {
	for _, query := range []string{
		"web.testing.svc.cluster.local A", "_postgres._tcp.db.testing.svc.cluster.local SRV",
		"nope.testing.svc.cluster.local A", "outside.testing.svc.cluster.local A",
	} {
		udp, tcp := dig(t, strings.Fields(query)...), dig(t, append(strings.Fields(query), "+tcp")...)
		if udp.String() != tcp.String() {
			t.Errorf("%s\nover UDP\n%s\nover TCP\n%s", query, udp, tcp)
		}
	}
}
