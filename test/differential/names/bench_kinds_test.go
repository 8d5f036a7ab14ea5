package names

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/clusterip/clusterip/test/dnsload"
	"github.com/miekg/dns"
)

// fewNames is how many names of a kind are asked for where they are few.
const fewNames = 16

// kind is a kind of question.
type kind struct {
	name string
	// at returns the questions about the i-th Service, or what is the i-th of its kind.
	at func(i int) []crowdQuestion
	// edns has the client take more than 512 bytes.
	edns bool
	// outside is asked only of sides that ask upstream for other names.
	outside bool
}

func virtualOf(i int) int  { return i/(headlessEvery-1)*headlessEvery + 1 + i%(headlessEvery-1) }
func headlessOf(i int) int { return i * headlessEvery }

func one(name string, qtype uint16, rcode, answers int) []crowdQuestion {
	return []crowdQuestion{{"", name, qtype, rcode, answers}}
}

func pointerTo(ip fmt.Stringer) string {
	name, _ := dns.ReverseAddr(ip.String())
	return name
}

var kinds = []kind{
	{name: "A of a ClusterIP", at: func(i int) []crowdQuestion { return one(crowdFQDN("", virtualOf(i)), dns.TypeA, 0, 1) }},
	{name: "AAAA of a ClusterIP, no data", at: func(i int) []crowdQuestion { return one(crowdFQDN("", virtualOf(i)), dns.TypeAAAA, 0, 0) }},
	{name: "A of a headless Service, 10", at: func(i int) []crowdQuestion { return one(crowdFQDN("", headlessOf(i)), dns.TypeA, 0, endpointsEach) }},
	{name: "SRV of a headless Service, 10", edns: true, at: func(i int) []crowdQuestion {
		return one(crowdFQDN("_http._tcp.", headlessOf(i)), dns.TypeSRV, 0, endpointsEach)
	}},
	{name: "SRV of a ClusterIP", at: func(i int) []crowdQuestion { return one(crowdFQDN("_http._tcp.", virtualOf(i)), dns.TypeSRV, 0, 1) }},
	{name: "PTR of a ClusterIP", at: func(i int) []crowdQuestion { return one(pointerTo(crowdClusterIP(virtualOf(i))), dns.TypePTR, 0, 1) }},
	{name: "PTR of an endpoint", at: func(i int) []crowdQuestion { return one(pointerTo(crowdEndpoint(endpointOf(i))), dns.TypePTR, 0, 1) }},
	{name: "A of an endpoint", at: func(i int) []crowdQuestion {
		n := endpointOf(i)
		ip := crowdEndpoint(n).As4()
		return one(crowdFQDN(fmt.Sprintf("%d-%d-%d-%d.", ip[0], ip[1], ip[2], ip[3]), n/endpointsEach), dns.TypeA, 0, 1)
	}},
	{name: "MX of a ClusterIP, no data", at: func(i int) []crowdQuestion { return one(crowdFQDN("", virtualOf(i)), dns.TypeMX, 0, 0) }},
	{name: "A, no such name", at: func(i int) []crowdQuestion {
		return one(fmt.Sprintf("www-%d.example.com.%s.svc.cluster.local.", i, crowdNamespace(i)), dns.TypeA, dns.RcodeNameError, 0)
	}},
	{name: mixed, at: mix},
	{name: "A of a name outside, cached", outside: true, at: func(i int) []crowdQuestion {
		return one(fmt.Sprintf("www-%d.example.com.", i), dns.TypeA, 0, 1)
	}},
}

const mixed = "mix of ndots:5"

// endpointOf is an endpoint of the i-th headless Service, but never the first, which tests of
// changes move.
func endpointOf(i int) int { return headlessOf(i)*endpointsEach + 1 + i%(endpointsEach-1) }

// mix is what pods ask whose resolver has ndots:5 and the cluster's three search domains, for A
// and AAAA each: half of the names are Services', as they are written in their own
// namespace, in another, and in full, and half are outside. Names that leave the zones are left
// out, so that all sides can be asked.
func mix(i int) []crowdQuestion {
	var out []crowdQuestion
	ask := func(name string, rcode, answers int) {
		out = append(out, one(name, dns.TypeA, rcode, answers)...)
		out = append(out, one(name, dns.TypeAAAA, rcode, 0)...)
	}
	v := virtualOf(i)
	own, other := crowdNamespace(v), crowdNamespace(v+1)
	switch i % 6 {
	case 0:
		ask(crowdFQDN("", v), 0, 1)
	case 1:
		ask(crowdName(v)+"."+own+"."+other+".svc.cluster.local.", dns.RcodeNameError, 0)
		ask(crowdFQDN("", v), 0, 1)
	case 2:
		for _, domain := range []string{other + ".svc.cluster.local.", "svc.cluster.local.", "cluster.local."} {
			ask(crowdFQDN("", v)+domain, dns.RcodeNameError, 0)
		}
		ask(crowdFQDN("", v), 0, 1)
	default:
		for _, domain := range []string{own + ".svc.cluster.local.", "svc.cluster.local.", "cluster.local."} {
			ask(fmt.Sprintf("www-%d.example.com.%s", i, domain), dns.RcodeNameError, 0)
		}
	}
	return out
}

// ask returns the questions of a kind, about few names or about those of all Services that have
// such; in an order that is the same each time.
func (k *kind) ask(t *testing.T, services int, few bool) []dnsload.Question {
	t.Helper()
	count := services / headlessEvery // as many as there are headless ones
	if few {
		count = fewNames
	} else if k.name == mixed || k.name == kinds[0].name {
		count = services / headlessEvery * (headlessEvery - 1)
	}
	var out []dnsload.Question
	for i := range count {
		for _, q := range k.at(i) {
			m := new(dns.Msg).SetQuestion(q.name, q.qtype)
			if k.edns {
				m.SetEdns0(1232, false)
			}
			wire, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, dnsload.Question{Message: wire, Rcode: q.rcode, Answers: q.answers})
		}
	}
	rand.New(rand.NewPCG(seed, 0)).Shuffle(len(out), func(i, k int) { out[i], out[k] = out[k], out[i] })
	return out
}

// dnsperfLines are the questions as dnsperf reads them.
func dnsperfLines(t *testing.T, questions []dnsload.Question) string {
	t.Helper()
	var out []byte
	for _, q := range questions {
		var m dns.Msg
		if err := m.Unpack(q.Message); err != nil {
			t.Fatal(err)
		}
		out = fmt.Appendf(out, "%s %s\n", m.Question[0].Name, dns.TypeToString[m.Question[0].Qtype])
	}
	return string(out)
}
