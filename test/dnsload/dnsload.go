// Package dnsload asks a name server as many questions as it can answer, or so many a
// second, over UDP and in batches, and looks at each reply.
package dnsload

import (
	"net/netip"
	"time"
)

// Load is what is asked, and how.
type Load struct {
	Server    netip.AddrPort
	Questions []Question // asked by turns, from the first on
	For       time.Duration
	PerSecond float64       // 0: as fast as replies come, with some 250 questions open
	CPU       int           // the processor to ask on, from 0; -1: any
	Patience  time.Duration // for replies after the last question; 0: 100 ms
}

// Question is one, and what the reply must have.
type Question struct {
	Message        []byte // as it is sent; the ID is replaced
	Rcode, Answers int
}

// Result is what became of a load.
type Result struct {
	Took                    time.Duration // from the first question to the last
	Sent, Answered          int           // right answers only
	Wrong                   int           // replies with another response code or count, or truncated
	Sample                  []byte        // a wrong reply
	Failed                  string        // what kept it from being asked, if anything did
	P50, P99, P999, Longest time.Duration // from a question to its answer; not where as fast as replies come
}

// Lost is how many questions had no reply, or too late.
func (r *Result) Lost() int { return r.Sent - r.Answered - r.Wrong }

// Rate is how many right answers there were a second.
func (r *Result) Rate() float64 { return float64(r.Answered) / r.Took.Seconds() }
