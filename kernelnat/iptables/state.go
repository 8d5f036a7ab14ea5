package iptables

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// state is what the kernel holds in one family, by table; a table that is not in
// it is empty.
type state map[string]*tableState

// tableState is one table as iptables-save prints it. Of our own chains only a
// digest is kept, but for those that Services share.
type tableState struct {
	chains map[string]uint64 // our chains, with the digest of their rules
	shared map[string][]string
	uses   []use
}

// use is a rule in a chain that is not ours, that leads to one of ours.
type use struct {
	from, rule, to string
}

func newTableState() *tableState {
	return &tableState{chains: make(map[string]uint64), shared: make(map[string][]string)}
}

// table returns the state of a table that may not be there.
func (s state) table(name string) *tableState {
	if t := s[name]; t != nil {
		return t
	}
	return newTableState()
}

// has reports whether a chain is there with exactly these rules.
func (t *tableState) has(c chain) bool {
	digest, ok := t.chains[c.name]
	return ok && digest == digestOf(c.rules)
}

// rulesOf returns the rules of a place, in its own chain and in those for ranges.
func (t *tableState) rulesOf(p place) []rule {
	var rules []rule
	for name, texts := range t.shared {
		if ranges := shared[p].ranges; name != shared[p].chain && (ranges == "" || !strings.HasPrefix(name, ranges)) {
			continue
		}
		for _, text := range texts {
			rules = append(rules, rule{packetsOf(text), text})
		}
	}
	return rules
}

// kept returns the rules of a place that are to stay, each once: those of Services for
// which keep is true, but none for packets that a new rule is for.
func (t *tableState) kept(p place, keep func(service string) bool, new []rule) []rule {
	taken := make(map[plan.Key]bool, len(new))
	for _, r := range new {
		taken[r.Key] = true
	}
	return sorted(slices.DeleteFunc(t.rulesOf(p), func(r rule) bool {
		name := serviceOf(r.text)
		return name == "" || !keep(name) || taken[r.Key]
	}))
}

// packetsOf returns what packets a rule of the kernel is for.
func packetsOf(text string) plan.Key {
	var addr netip.Addr
	var key plan.Key
	var port uint64
	w := words(text)
	for i := 0; i+1 < len(w); i++ {
		switch value := w[i+1]; w[i] {
		case "-d":
			prefix, _ := netip.ParsePrefix(value) // the zero Addr for what is none of ours
			addr = prefix.Addr()
		case "-p":
			key.Protocol = protocols[value]
		case "--dport":
			port, _ = strconv.ParseUint(value, 10, 16)
		}
	}
	key.At = netip.AddrPortFrom(addr, uint16(port))
	return key
}

var protocols = map[string]cluster.Protocol{"tcp": cluster.TCP, "udp": cluster.UDP, "sctp": cluster.SCTP}

// commentOf returns the comment of a rule, or "".
func commentOf(rule string) string {
	w := words(rule)
	at := slices.Index(w, "--comment")
	if at < 0 || at+1 == len(w) {
		return ""
	}
	return w[at+1]
}

// serviceOf returns the Service that a rule's comment names, or "".
func serviceOf(rule string) string {
	name, _, _ := strings.Cut(commentOf(rule), " ")
	name, _, _ = strings.Cut(name, ":")
	if !strings.Contains(name, "/") {
		return ""
	}
	return name
}

// count says how often a jump is there.
func (t *tableState) count(j jump) int { return len(t.leading(j)) }

// leading returns the rules that are a jump.
func (t *tableState) leading(j jump) []use {
	return slices.DeleteFunc(slices.Clone(t.uses), func(u use) bool { return !j.is(u) })
}

// parser reads the output of iptables-save as a stream: it can be large.
type parser struct {
	state state
	rest  []byte // an incomplete line
	name  string // of the table
	table *tableState
	err   error

	rules   int  // in all tables
	foreign int  // those that are neither ours nor kube-proxy's or the kubelet's
	hinted  bool // the kubelet has left its mark
}

// Write implements io.Writer.
func (p *parser) Write(data []byte) (int, error) {
	n := len(data)
	for {
		line, after, found := bytes.Cut(data, []byte("\n"))
		if !found {
			p.rest = append(p.rest, data...)
			return n, nil
		}
		if len(p.rest) > 0 {
			line = append(p.rest, line...)
			p.rest = p.rest[:0]
		}
		p.line(string(line))
		data = after
	}
}

func (p *parser) line(line string) {
	switch {
	case strings.HasPrefix(line, "*"):
		p.name, p.table = line[1:], newTableState()
		p.state[p.name] = p.table
	// iptables-nft prints this in place of the rules, and exits with 0, where
	// another program has put rules into the table that iptables cannot show.
	case strings.HasPrefix(line, "# Table `"):
		name, _, _ := strings.Cut(line[len("# Table `"):], "'")
		if _, used := ownChains[name]; used {
			p.err = fmt.Errorf("%s Another program has written rules that are none of iptables' into it: move them to a table of their own", line[2:])
		}
	case p.table == nil:
	case strings.HasPrefix(line, ":"):
		name, _, _ := strings.Cut(line[1:], " ")
		p.hinted = p.hinted || p.name == tableMangle && slices.Contains(kubeletHints, name)
		if owned(p.name, name) {
			p.table.chains[name] = digestOf(nil)
		}
		if keepsText(p.name, name) {
			p.table.shared[name] = []string{}
		}
	case strings.HasPrefix(line, "-A "):
		name, rule, _ := strings.Cut(line[3:], " ")
		p.rules++
		if !owned(p.name, name) && !strings.Contains(rule, "KUBE-") {
			p.foreign++
		}
		p.rule(name, rule)
	}
}

func (p *parser) rule(from, rule string) {
	if keepsText(p.name, from) {
		p.table.shared[from] = append(p.table.shared[from], rule)
	}
	if owned(p.name, from) {
		p.table.chains[from] = addDigest(p.table.chains[from], rule)
		return
	}
	if !strings.Contains(rule, "KUBE-") {
		return
	}
	w := words(rule)
	for i, word := range w[1:] {
		if (w[i] == "-j" || w[i] == "-g") && (owned(p.name, word) || word == chainFirewall) {
			p.table.uses = append(p.table.uses, use{from, rule, word})
		}
	}
}

// keepsText reports whether a chain's rules are needed as they are: chains that
// Services share, and the one that is the kubelet's too.
func keepsText(table, chain string) bool {
	_, isPlace := placeOf(table, chain)
	return isPlace || strings.HasPrefix(chain, prefixRange) || chain == chainFirewall
}

func owned(table, chain string) bool {
	return table == tableNAT && rank(chain) >= 0 || table == tableFilter && strings.HasPrefix(chain, prefixRange) ||
		slices.Contains(ownChains[table], chain) || slices.Contains(proxyIPVSChains[table], chain)
}

var digestSeed = maphash.MakeSeed()

func digestOf(rules []string) uint64 {
	var digest uint64
	for _, r := range rules {
		digest = addDigest(digest, r)
	}
	return digest
}

func addDigest(digest uint64, rule string) uint64 {
	return digest*31 + maphash.String(digestSeed, canonical(rule)) + 1
}

// canonical replaces a probability by the number the kernel keeps: 31 bits after
// the binary point. It prints 0.3333333333 as 0.33333333349.
func canonical(rule string) string {
	const option = " --probability "
	before, rest, found := strings.Cut(rule, option)
	if !found {
		return rule
	}
	number, after, _ := strings.Cut(rest, " ")
	p, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return rule
	}
	return fmt.Sprintf("%s%s%d %s", before, option, int64(math.Round(p*(1<<31))), after)
}

func sortedWords(rule string) []string {
	w := words(rule)
	slices.Sort(w)
	return w
}

// words splits a rule as iptables-restore does: at spaces outside quotes, a
// backslash keeping the next character. It returns at least one word.
func words(rule string) []string {
	var out []string
	var word []byte
	quoted := false
	for i := 0; i < len(rule); i++ {
		switch c := rule[i]; {
		case c == '\\' && i+1 < len(rule):
			i++
			word = append(word, rule[i])
		case c == '"':
			quoted = !quoted
		case c == ' ' && !quoted:
			out, word = append(out, string(word)), nil
		default:
			word = append(word, c)
		}
	}
	return append(out, string(word))
}
