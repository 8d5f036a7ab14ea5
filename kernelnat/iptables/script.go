package iptables

import "bytes"

// script is input for iptables-restore: transactions, each from beginTable to
// commit. Without --flush only chains that are declared lose their rules.
type script struct {
	buf    bytes.Buffer
	chains int // declared since beginTable
	rules  int // appended since then
}

func (s *script) beginTable(table string) {
	s.line("*", table)
	s.chains, s.rules = 0, 0
}

func (s *script) commit() { s.line("COMMIT") }

// declare makes a chain, or empties it.
func (s *script) declare(chain string) {
	s.line(":", chain, " - [0:0]")
	s.chains++
}

// write declares chains and then fills them, so that they may refer to each
// other.
func (s *script) write(chains ...chain) {
	for _, c := range chains {
		s.declare(c.name)
	}
	for _, c := range chains {
		for _, rule := range c.rules {
			s.append(c.name, rule)
		}
	}
}

// remove deletes chains that nothing but they themselves refers to any more.
func (s *script) remove(chains ...string) {
	for _, c := range chains {
		s.declare(c)
	}
	for _, c := range chains {
		s.deleteChain(c)
	}
}

func (s *script) deleteChain(chain string) { s.line("-X ", chain) }

func (s *script) append(chain, rule string) {
	s.line("-A ", chain, " ", rule)
	s.rules++
}

func (s *script) insert(chain, rule string)     { s.line("-I ", chain, " ", rule) }
func (s *script) list(chain string)             { s.line("-S ", chain) }
func (s *script) deleteRule(chain, rule string) { s.line("-D ", chain, " ", rule) }

func (s *script) line(parts ...string) {
	for _, p := range parts {
		s.buf.WriteString(p)
	}
	s.buf.WriteByte('\n')
}
