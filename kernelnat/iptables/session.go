package iptables

import (
	"cmp"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// runSize is about how much one run of iptables-restore reads at most: its input is
// kept for error messages, and a run takes some milliseconds whatever it does.
const runSize = 8 << 20

// session sends transactions of bounded size. After a failed send it does
// nothing but keep the error.
type session struct {
	have   state
	chains int // the most chains one transaction declares, but for the chains of one Service
	send   func(input []byte) error

	written []string                      // in words, for a log
	left    map[cluster.ServiceName]*held // Services that are not written: large ones, and those whose rules are rejected

	script script
	table  string // of the open transaction; "" if there is none
	err    error
}

// open goes on with the transaction on a table, or begins one if there is none
// or it is full.
func (s *session) open(table string) {
	if s.table == table && s.script.chains < s.chains {
		return
	}
	s.commit()
	s.table = table
	s.script.beginTable(table)
}

// commit ends the open transaction. It may be sent later, with those after it.
func (s *session) commit() {
	if s.table != "" {
		s.script.commit()
		s.table = ""
	}
	if s.script.buf.Len() >= runSize {
		s.flush()
	}
}

// flush ends the open transaction and sends all that are not sent.
func (s *session) flush() error {
	if s.table != "" {
		s.script.commit()
		s.table = ""
	}
	if s.err == nil && s.script.buf.Len() > 0 {
		s.err = s.send(s.script.buf.Bytes())
	}
	s.script.buf.Reset()
	return s.err
}

// write writes the chains that are not there with these rules yet, in one
// transaction.
func (s *session) write(table string, chains ...chain) {
	have := s.have.table(table)
	var changed []chain
	for _, c := range chains {
		if !have.has(c) {
			changed = append(changed, c)
		}
	}
	if len(changed) > 0 {
		s.open(table)
		s.script.write(changed...)
	}
	for _, c := range changed {
		s.written = append(s.written, table+" "+c.name)
	}
}

// link has the built-in chains of a table lead to ours by each jump once, and by no jump
// that is not ours any more: an older kube-proxy had others, and so has its IPVS mode.
func (s *session) link(table string) {
	have := s.have.table(table)
	old := slices.DeleteFunc(slices.Clone(have.uses), func(u use) bool { return !slices.Contains(builtinChains, u.from) || !hasOwnComment(u.rule) })
	for _, j := range jumps {
		if j.table == table {
			s.once(j)
			old = slices.DeleteFunc(old, j.is)
		}
	}
	for _, u := range old {
		s.delete(table, u)
		s.written = append(s.written, "no "+table+" "+u.from+" "+u.rule)
	}
	have.uses = slices.DeleteFunc(have.uses, func(u use) bool { return slices.Contains(old, u) })
}

// once has a jump be there once. There may be several: two programs that insert at the
// same time both find it missing. Then all go and one comes at the head, since none is
// known to be before the rules of others that accept or drop packets.
func (s *session) once(j jump) {
	have := s.have.table(j.table)
	switch have.count(j) {
	case 1:
	case 0:
		s.insert(j)
		s.written = append(s.written, j.table+" "+j.from+" "+j.rule)
	default:
		for _, u := range have.leading(j) {
			s.delete(j.table, u)
		}
		s.insert(j)
		s.written = append(s.written, "no second "+j.table+" "+j.from+" "+j.rule)
	}
}

// delete removes a rule as it is printed: iptables compares the order of its parts.
func (s *session) delete(table string, u use) {
	s.open(table)
	s.script.deleteRule(u.from, u.rule)
}

// insert puts a jump at the head of its chain.
func (s *session) insert(j jump) {
	s.open(j.table)
	s.script.insert(j.from, j.rule)
}

// removeChains removes the chains of Services and for ranges of addresses of a table, but
// for those to keep. Nothing else of ours may refer to the rest any more.
func (s *session) removeChains(table string, keep func(chain string) bool) {
	var names []string
	for name := range s.have.table(table).chains {
		if rank(name) >= 0 && !keep(name) {
			names = append(names, name)
		}
	}
	// Chains of ranges lead to each other.
	for _, name := range names {
		if strings.HasPrefix(name, prefixRange) {
			s.open(table)
			s.script.declare(name)
		}
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	for batch := range slices.Chunk(names, s.chains) {
		s.commit()
		s.remove(table, batch)
	}
}

// remove deletes chains, but only empties those that a rule of somebody else
// uses: that rule stays, and they cannot be deleted before it.
func (s *session) remove(table string, chains []string) {
	used := make(map[string]bool)
	for _, u := range s.have.table(table).uses {
		used[u.to] = true
	}
	for _, c := range chains {
		s.open(table)
		s.script.declare(c)
		s.written = append(s.written, "no "+table+" "+c)
	}
	for _, c := range chains {
		if !used[c] {
			s.script.deleteChain(c)
		}
	}
}
