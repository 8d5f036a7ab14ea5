package iptables

import (
	"cmp"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// rulesInPart is how many rules one part has at most. A chain that packets may be passing
// is written whole, however many it has.
const rulesInPart = 3000

// part is the input of one run of iptables-restore.
type part struct {
	input []byte
	// undo takes the arrangement back if the part is rejected. It is nil if the part
	// cannot have changed that.
	undo func()
}

// large changes one Service in parts. First come chains that nothing leads to yet;
// then, port by port, what leads to them; and what is left of before goes last. So
// each port has either its old rules or its new ones at every moment.
type large struct {
	to    plan.Service
	from  []plan.Service // what the kernel holds, if that is sure, or may hold
	rules [places][]rule // if it is not sure: what else may be in shared chains
	sure  bool
	right map[string]bool // if it is not sure: chains that are as they are to be

	arrangement *arrangement
	chains      int             // in one part, at most
	ports       map[portKey]int // of from, if it is sure
	stages      []stage
}

// stage makes its parts one by one, until there is none.
type stage interface{ next() (part, bool) }

// portKey is what the names of a port's chains come from, besides the Service.
type portKey struct {
	name     string
	protocol cluster.Protocol
}

// next returns the part to send after the one before has been sent.
func (l *large) next() (part, bool) {
	if l.stages == nil {
		l.begin()
	}
	for ; len(l.stages) > 0; l.stages = l.stages[1:] {
		if p, ok := l.stages[0].next(); ok {
			return p, true
		}
	}
	return part{}, false
}

func (l *large) begin() {
	l.ports = make(map[portKey]int)
	if l.sure {
		for i, p := range l.from[0].Pools {
			l.ports[portKey{p.Port, p.Protocol}] = i
		}
	}
	insert, remove, kept := l.sharedRules()
	lost := lost(&remove, kept)
	l.stages = []stage{
		// What it has no claim to any more may be another's by now.
		&exchange{large: l, table: tableNAT, remove: lost},
		&exchange{large: l, table: tableFilter, remove: lost},
		&preparation{large: l},
		// Refusals are there before, and until, the Service is translated.
		&exchange{large: l, table: tableFilter, insert: insert},
		&switching{large: l},
		&exchange{large: l, table: tableNAT, remove: remove},
		&exchange{large: l, table: tableFilter, remove: remove},
		&removal{large: l},
	}
}

// before returns what the kernel surely holds of a port of the new plan.
func (l *large) before(i int) rendering {
	p := &l.to.Pools[i]
	if at, known := l.ports[portKey{p.Port, p.Protocol}]; known {
		return renderPool(l.from[0], at)
	}
	return rendering{}
}

// sharedRules returns the rules that come to shared chains, those that go, and what packets
// the new ones are for.
func (l *large) sharedRules() (insert, remove [places][]rule, kept map[plan.Key]bool) {
	var old, now [places][]rule
	for p, rules := range l.rules {
		old[p] = slices.Clip(rules)
	}
	for _, s := range l.from {
		addShared(&old, s)
	}
	addShared(&now, l.to)
	for p := range places {
		insert[p], remove[p] = now[p], without(old[p], now[p])
		if l.sure {
			insert[p] = without(now[p], old[p])
		}
	}
	return insert, remove, keysOf(now)
}

func keysOf(rules [places][]rule) map[plan.Key]bool {
	out := make(map[plan.Key]bool)
	for _, of := range rules {
		for _, r := range of {
			out[r.Key] = true
		}
	}
	return out
}

// lost moves rules out of remove: those for packets that the new plan has no rule for.
func lost(remove *[places][]rule, kept map[plan.Key]bool) (out [places][]rule) {
	for p := range places {
		out[p] = slices.DeleteFunc(slices.Clone(remove[p]), func(r rule) bool { return kept[r.Key] })
		remove[p] = slices.DeleteFunc(slices.Clone(remove[p]), func(r rule) bool { return !kept[r.Key] })
	}
	return out
}

// preparation writes chains that nothing leads to. Where it is not sure what is there it
// writes all that are not right, each whole, since packets may be passing them.
type preparation struct {
	*large
	port    int     // after that of the chains
	pending []chain // the first of which is being written
	done    int     // rules of it that are written
}

func (s *preparation) next() (part, bool) {
	var out script
	for out.chains < s.chains && out.rules < rulesInPart && s.fill() {
		if out.buf.Len() == 0 {
			out.beginTable(tableNAT)
		}
		c := s.pending[0]
		if s.done == 0 {
			out.declare(c.name)
		}
		end := len(c.rules)
		if s.sure {
			end = min(end, s.done+rulesInPart-out.rules)
		}
		for _, rule := range c.rules[s.done:end] {
			out.append(c.name, rule)
		}
		if s.done = end; end == len(c.rules) {
			s.pending, s.done = s.pending[1:], 0
		}
	}
	if out.buf.Len() > 0 {
		out.commit()
	}
	return part{input: out.buf.Bytes()}, out.buf.Len() > 0
}

// fill reports whether there is a chain to write.
func (s *preparation) fill() bool {
	for len(s.pending) == 0 && s.port < len(s.to.Pools) {
		before := chainNames(s.before(s.port))
		for _, c := range renderPool(s.to, s.port).chains {
			if !before[c.name] && !s.right[c.name] {
				s.pending = append(s.pending, c)
			}
		}
		s.port++
	}
	return len(s.pending) > 0
}

func chainNames(r rendering) map[string]bool {
	out := make(map[string]bool, len(r.chains))
	for _, c := range r.chains {
		out[c.name] = true
	}
	return out
}

// switching rewrites the chains that are in use, and adds the rules that lead to new ones,
// port by port.
type switching struct {
	*large
	port    int
	pending []chain // of the port before, that change
}

func (s *switching) next() (part, bool) {
	var d delta
	for n := 0; n < rulesInPart && len(d.write) < s.chains; {
		if len(s.pending) > 0 {
			d.write, n = append(d.write, s.pending[0]), n+len(s.pending[0].rules)
			s.pending = s.pending[1:]
			continue
		}
		if s.port == len(s.to.Pools) {
			break
		}
		before := s.before(s.port)
		there, change := chainNames(before), difference(before, renderPool(s.to, s.port))
		s.pending = slices.DeleteFunc(change.write, func(c chain) bool { return !there[c.name] })
		for _, p := range []place{natServices, natNodePorts} {
			d.insert[p] = append(d.insert[p], change.insert[p]...)
			n += len(change.insert[p])
		}
		s.port++
	}
	var out script
	write, gone, undo := s.arrangement.try(tableNAT, d.insert, d.delete)
	out.transaction(tableNAT, append(d.write, write...), gone)
	return part{out.buf.Bytes(), undo}, out.buf.Len() > 0
}

// exchange puts rules into the shared chains of one table and takes rules out.
type exchange struct {
	*large
	table          string
	insert, remove [places][]rule
}

func (s *exchange) next() (part, bool) {
	var out script
	var undo func()
	for p := range places {
		for shared[p].table == s.table && out.buf.Len() == 0 && len(s.insert[p])+len(s.remove[p]) > 0 {
			var in, gone [places][]rule
			in[p], s.insert[p] = cut(s.insert[p])
			gone[p], s.remove[p] = cut(s.remove[p])
			var write []chain
			var unused []string
			write, unused, undo = s.arrangement.try(s.table, in, gone)
			out.transaction(s.table, write, unused)
		}
	}
	return part{out.buf.Bytes(), undo}, out.buf.Len() > 0
}

func cut(rules []rule) (first, rest []rule) {
	n := min(len(rules), rulesInPart)
	return rules[:n], rules[n:]
}

// removal removes the chains that nothing leads to any more.
type removal struct {
	*large
	listed bool
	gone   []string
}

func (s *removal) next() (part, bool) {
	if !s.listed {
		s.gone, s.listed = s.unused(), true
	}
	var out script
	n := min(len(s.gone), s.chains)
	out.transaction(tableNAT, nil, s.gone[:n])
	s.gone = s.gone[n:]
	return part{input: out.buf.Bytes()}, n > 0
}

// unused returns the chains that go, those first that lead to others.
func (l *large) unused() []string {
	seen := make(map[string]bool)
	for c := range chainsOf(l.to) {
		seen[c.name] = true
	}
	var gone []string
	for _, s := range l.from {
		for c := range chainsOf(s) {
			if !seen[c.name] {
				seen[c.name] = true
				gone = append(gone, c.name)
			}
		}
	}
	slices.SortFunc(gone, func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b)) })
	return gone
}
