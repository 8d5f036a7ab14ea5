package clusterip

import (
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/miekg/dns"
)

// maxJournal is how many records a zone's journal holds at most: with names of
// ordinary length about 2 MB.
const maxJournal = 10_000

// journal remembers how one zone changed, for incremental transfers (RFC 1995).
type journal struct {
	oldest  uint32 // the first serial that is known
	steps   []step
	records int // in all steps
}

// step leads to a serial from the one of the step before.
type step struct {
	serial     uint32
	gone, come []dns.RR
}

// add remembers a step, and forgets the oldest when there is too much.
func (j *journal) add(serial uint32, gone, come []dns.RR) {
	j.steps = append(j.steps, step{serial, gone, come})
	j.records += len(gone) + len(come)
	for j.records > maxJournal {
		first := j.steps[0]
		j.steps[0] = step{} // the array lives on
		j.steps = j.steps[1:]
		j.records -= len(first.gone) + len(first.come)
		j.oldest = first.serial
	}
}

// since returns the difference between the zone at a serial and now, all steps in
// one (RFC 1995 section 5); not ok if too little is known.
func (j *journal) since(serial uint32) (difference zone.Delta, ok bool) {
	if newer(j.oldest, serial) {
		return difference, false
	}
	for _, s := range j.steps {
		if newer(s.serial, serial) {
			difference.Add(s.gone, s.come)
		}
	}
	return difference, true
}

// newer compares serials as RFC 1982 has it.
func newer(a, b uint32) bool { return int32(a-b) > 0 }
