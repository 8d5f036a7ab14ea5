package names

import (
	"flag"
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/dnsload"
	"github.com/clusterip/clusterip/test/performance"
	"github.com/miekg/dns"
)

// What of the servers is measured; `make bench-dns` sets these.
var (
	benchSides  = flag.String("dns.sides", "", "regular expression: which servers to measure, by name")
	benchKinds  = flag.String("dns.kinds", "", "regular expression: which kinds of question to measure")
	benchFor    = flag.Duration("dns.for", 400*time.Millisecond, "how long each server is asked each kind of question, in each of 3 rounds")
	benchReport = flag.String("dns.report", "", "folder to write the results to")
)

// bout has servers with the same names.
type bout struct {
	*crowd
	t         *testing.T
	upstream  string // address of a server for names outside
	primary   string // port of the server that secondaries transfer zones from
	asker     *dnsload.Process
	questions map[string][2][]dnsload.Question // of a kind: about all names, about few
	results   map[string]*performance.NameServer
}

// benchServers measures all that were chosen, by turns, and then each alone.
func (c *crowd) benchServers(t *testing.T) performance.DNS {
	b := &bout{crowd: c, t: t, upstream: outside(t), questions: make(map[string][2][]dnsload.Question), results: make(map[string]*performance.NameServer)}
	var err error
	if b.asker, err = dnsload.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.asker.Close() })
	sides := chosen(t, *benchSides, allSides, func(s *side) string { return s.name })
	sides = slices.DeleteFunc(sides, func(s *side) bool { return !b.knows(t, s) })
	asked := chosen(t, *benchKinds, kinds, func(k *kind) string { return k.name })
	for i := range kinds {
		k := &kinds[i]
		b.questions[k.name] = [2][]dnsload.Question{k.ask(t, c.size, false), k.ask(t, c.size, true)}
	}
	var contenders []*contender
	for _, s := range sides {
		b.results[s.name] = &performance.NameServer{Name: s.name, Services: c.size, Endpoints: endpointsEach}
		contenders = append(contenders, b.run(s))
	}
	for _, k := range asked {
		b.answers(k, contenders)
	}
	for _, c := range contenders {
		c.stop()
	}
	var out performance.DNS
	for _, s := range sides {
		b.alone(s, asked)
		out = append(out, *b.results[s.name])
	}
	return out
}

// chosen are those whose name the expression matches.
func chosen[T any](t *testing.T, expression string, all []T, name func(*T) string) (out []*T) {
	t.Helper()
	re, err := regexp.Compile(expression)
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		if re.MatchString(name(&all[i])) {
			out = append(out, &all[i])
		}
	}
	return out
}

// outside is a server that has an address for every name.
func outside(t *testing.T) (address string) {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		if q := r.Question[0]; q.Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 3600}, A: net.IPv4(198, 51, 100, 80)}}
		}
		w.WriteMsg(m)
	})}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	return conn.LocalAddr().String()
}

// load is one of all questions of a kind, or about few names, for as long as was chosen.
func (b *bout) load(c *contender, kind string, few int) dnsload.Load {
	return dnsload.Load{Server: c.at, Questions: b.questions[kind][few], For: *benchFor, CPU: -1}
}

// do asks, and fails the test if there is a wrong answer.
func (b *bout) do(c *contender, what string, l dnsload.Load) dnsload.Result {
	b.t.Helper()
	r := b.asker.Run(l)
	if r.Failed != "" {
		b.t.Fatalf("%s: %s: %s", c.name, what, r.Failed)
	}
	if r.Wrong > 0 {
		var m dns.Msg
		err := m.Unpack(r.Sample)
		b.t.Errorf("%s: %s: %d of %d answers are wrong, such as (%v)\n%v", c.name, what, r.Wrong, r.Sent, err, &m)
	}
	return r
}

// most asks as much as a server can answer. It returns its rate and its processor time for one.
func (b *bout) most(c *contender, what string, l dnsload.Load) (float64, time.Duration) {
	b.t.Helper()
	warm := l
	warm.For = l.For / 4
	b.do(c, what, warm)
	m := c.meter()
	before := m.used()
	r := b.do(c, what, l)
	if r.Answered == 0 {
		b.t.Fatalf("%s: %s: no answer to %d questions", c.name, what, r.Sent)
	}
	return r.Rate(), (m.used() - before) / time.Duration(r.Answered)
}

// answers measures the answers to one kind of question, the servers by turns.
func (b *bout) answers(k *kind, contenders []*contender) {
	b.t.Helper()
	contenders = slices.DeleteFunc(slices.Clone(contenders), func(c *contender) bool { return k.outside && !c.follows() })
	for few := range 2 {
		rates, costs := make(map[string][]float64), make(map[string][]time.Duration)
		for range rounds {
			for _, c := range contenders {
				rate, cost := b.most(c, k.name, b.load(c, k.name, few))
				rates[c.name], costs[c.name] = append(rates[c.name], rate), append(costs[c.name], cost)
			}
		}
		for _, c := range contenders {
			a := performance.Answers{Kind: k.name, Few: few == 1, PerSecond: middle(rates[c.name]), CPU: middle(costs[c.name])}
			b.results[c.name].Answers = append(b.results[c.name].Answers, a)
		}
	}
	b.latencies(k, contenders)
	b.dnsperf(k, contenders)
}

// of is what was measured of a side's answers about all names of a kind.
func (b *bout) of(side, kind string) *performance.Answers {
	n := b.results[side]
	if n == nil {
		return nil
	}
	i := slices.IndexFunc(n.Answers, func(a performance.Answers) bool { return a.Kind == kind && !a.Few })
	if i < 0 {
		return nil
	}
	return &n.Answers[i]
}

// half is half of the most that CoreDNS can answer; without it 10,000 a second.
func (b *bout) half(kind string) float64 {
	if a := b.of(allSides[0].name, kind); a != nil {
		return a.PerSecond / 2
	}
	return 10_000
}

// latencies measures what answers take at half of what CoreDNS can.
func (b *bout) latencies(k *kind, contenders []*contender) {
	b.t.Helper()
	half := b.half(k.name)
	p50, p99 := make(map[string][]time.Duration), make(map[string][]time.Duration)
	for range rounds {
		for _, c := range contenders {
			l := b.load(c, k.name, 0)
			l.PerSecond = half
			r := b.do(c, k.name, l)
			p50[c.name], p99[c.name] = append(p50[c.name], r.P50), append(p99[c.name], r.P99)
		}
	}
	for _, c := range contenders {
		a := b.of(c.name, k.name)
		a.Half, a.P50, a.P99 = half, middle(p50[c.name]), middle(p99[c.name])
	}
}

// dnsperfKinds are those that dnsperf asks too; it takes long for each.
var dnsperfKinds = []string{kinds[0].name, kinds[2].name, kinds[9].name, mixed}

var dnsperfRate = regexp.MustCompile(`Queries per second:\s+([0-9.]+)`)

// dnsperf measures how much a server answers when dnsperf asks.
func (b *bout) dnsperf(k *kind, contenders []*contender) {
	b.t.Helper()
	if !slices.Contains(dnsperfKinds, k.name) {
		return
	}
	program := b.fetch("dnsperf", "usr/bin/dnsperf")
	file := b.write("questions", dnsperfLines(b.t, b.questions[k.name][0]))
	rates := make(map[string][]float64)
	for range rounds {
		for _, c := range contenders {
			args := append(program[1:len(program):len(program)], "-s", "127.0.0.1", "-p", fmt.Sprint(c.at.Port()), "-d", file, "-c", "128", "-T", "2", "-q", "256", "-l", "1", "-t", "1")
			out, err := exec.Command(program[0], args...).CombinedOutput()
			found := dnsperfRate.FindSubmatch(out)
			if err != nil || found == nil {
				b.t.Fatalf("dnsperf: %v\n%s", err, out)
			}
			rate, _ := strconv.ParseFloat(string(found[1]), 64)
			rates[c.name] = append(rates[c.name], rate)
		}
	}
	for _, c := range contenders {
		b.of(c.name, k.name).Dnsperf = middle(rates[c.name])
	}
}

func middle[N float64 | time.Duration](of []N) N {
	return slices.Sorted(slices.Values(of))[len(of)/2]
}

// report shows the results, and writes them where they are to be if nothing was wrong.
func report(t *testing.T, results performance.DNS) {
	t.Helper()
	t.Logf("\n%s", strings.TrimSpace(results.Tables()))
	if *benchReport != "" && !t.Failed() {
		if err := results.Save(*benchReport, "dns"); err != nil {
			t.Error(err)
		}
	}
}
