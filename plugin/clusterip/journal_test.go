package clusterip

import (
	"fmt"
	"testing"

	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

func TestJournal(t *testing.T) {
	a, b := test.A("a.test. 5 IN A 192.0.2.1"), test.A("b.test. 5 IN A 192.0.2.2")
	start := ^uint32(0) - 2 // serials wrap around on the way (RFC 1982)
	j := &journal{oldest: start}
	j.add(start+1, nil, []dns.RR{a})
	j.add(start+3, []dns.RR{a}, []dns.RR{b})
	j.add(start+5, nil, []dns.RR{a})
	for _, c := range []struct {
		serial uint32
		want   string
	}{
		{start - 1, "unknown"},
		{start, "-[] +[192.0.2.1 192.0.2.2]"},
		{start + 1, "-[] +[192.0.2.2]"},
		{start + 2, "-[] +[192.0.2.2]"},
		{start + 3, "-[] +[192.0.2.1]"},
		{start + 5, "-[] +[]"},
	} {
		got := "unknown"
		if d, ok := j.since(c.serial); ok {
			got = fmt.Sprintf("-%v +%v", addresses(d.Gone()), addresses(d.Come()))
		}
		if got != c.want {
			t.Errorf("since serial %d: %s, want %s", c.serial, got, c.want)
		}
	}
}

func addresses(rrs []dns.RR) []string {
	out := []string{}
	for _, rr := range rrs {
		out = append(out, rr.(*dns.A).A.String())
	}
	return out
}

// What is forgotten can no longer be asked for.
func TestJournalIsBounded(t *testing.T) {
	j := &journal{}
	rr := []dns.RR{test.A("a.test. 5 IN A 192.0.2.1")}
	for serial := range uint32(maxJournal) {
		j.add(serial+1, rr, nil)
		j.add(serial+1, nil, rr)
	}
	if j.records != maxJournal || len(j.steps) != maxJournal {
		t.Errorf("%d records in %d steps, want %d", j.records, len(j.steps), maxJournal)
	}
	if _, ok := j.since(maxJournal/2 - 1); ok {
		t.Error("a forgotten serial is known")
	}
	if _, ok := j.since(maxJournal / 2); !ok {
		t.Error("a remembered serial is not known")
	}
}
