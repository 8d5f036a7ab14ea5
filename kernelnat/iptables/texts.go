package iptables

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/status"
)

// chainKey names a chain.
type chainKey struct{ table, name string }

// chainText is the rules of a chain, in their order.
type chainText struct {
	rules []string
	there bool
}

// driftBy says what input for iptables-restore, without --flush, changes of what iptables-save
// has printed. It is pure.
func driftBy(saved, input []byte) []status.Drift {
	before, after := make(map[chainKey]*chainText), make(map[chainKey]*chainText)
	var order []chainKey
	for key := range chainLines(input) {
		if before[key] == nil {
			before[key], order = new(chainText), append(order, key)
		}
	}
	for key, line := range chainLines(saved) {
		if c := before[key]; c != nil {
			c.take(line)
		}
	}
	for key, c := range before {
		after[key] = &chainText{rules: slices.Clone(c.rules), there: c.there}
	}
	for key, line := range chainLines(input) {
		after[key].take(line)
	}
	var out []status.Drift
	for _, key := range order {
		out = append(out, driftOf(key, before[key], after[key])...)
	}
	slices.SortStableFunc(out, func(a, b status.Drift) int { return cmp.Compare(a.Service, b.Service) })
	return out
}

// chainLines yields the lines that are about a chain.
func chainLines(text []byte) iter.Seq2[chainKey, string] {
	return func(yield func(chainKey, string) bool) {
		table := ""
		for raw := range bytes.Lines(text) {
			line := string(bytes.TrimSuffix(raw, []byte("\n")))
			name := ""
			switch {
			case strings.HasPrefix(line, "*"):
				table = line[1:]
			case strings.HasPrefix(line, ":"):
				name, _, _ = strings.Cut(line[1:], " ")
			case strings.HasPrefix(line, "-") && len(line) > 3:
				name, _, _ = strings.Cut(line[3:], " ")
			}
			if name != "" && !yield(chainKey{table, name}, line) {
				return
			}
		}
	}
}

// take does what a line says.
func (c *chainText) take(line string) {
	_, rule, _ := strings.Cut(line[min(3, len(line)):], " ")
	switch command, _, _ := strings.Cut(line, " "); {
	case line[0] == ':':
		c.there, c.rules = true, nil
	case command == "-X":
		c.there, c.rules = false, nil
	case command == "-A":
		c.there, c.rules = true, append(c.rules, rule)
	case command == "-I":
		c.there, c.rules = true, slices.Insert(c.rules, 0, rule)
	case command == "-D":
		if at := slices.Index(c.rules, rule); at >= 0 {
			c.rules = slices.Delete(c.rules, at, at+1)
		}
	}
}

// driftOf compares a chain with what it would be.
func driftOf(key chainKey, before, after *chainText) (out []status.Drift) {
	note := func(change status.DriftChange, service, text string) {
		out = append(out, status.Drift{Change: change, Service: service, Text: fmt.Sprintf("-t %s %s", key.table, text)})
	}
	owner := chainOwner(key, before, after)
	builtin := slices.Contains(builtinChains, key.name)
	if after.there && !before.there && !builtin {
		note(status.DriftAdd, owner, "-N "+key.name)
	}
	goes, comes := apart(before.rules, after.rules)
	for _, rule := range goes {
		note(status.DriftRemove, cmp.Or(serviceOf(rule), owner), "-A "+key.name+" "+rule)
		if d := &out[len(out)-1]; d.Service == "" {
			d.Of = "another's, or of other options"
		}
	}
	for _, rule := range comes {
		note(status.DriftAdd, cmp.Or(serviceOf(rule), owner), "-A "+key.name+" "+rule)
	}
	switch {
	case before.there && !after.there && !builtin:
		note(status.DriftRemove, owner, "-N "+key.name)
	case len(goes)+len(comes) == 0 && !slices.EqualFunc(before.rules, after.rules, sameRule):
		note(status.DriftChanged, owner, key.name+", whose rules are in another order")
	}
	return out
}

func sameRule(a, b string) bool { return canonical(a) == canonical(b) }

// chainOwner is the Service that has a chain to itself, "" if none has.
func chainOwner(key chainKey, states ...*chainText) string {
	if key.table != tableNAT || rank(key.name) < 0 || strings.HasPrefix(key.name, prefixRange) {
		return ""
	}
	for _, c := range states {
		for _, rule := range c.rules {
			if service := serviceOf(rule); service != "" {
				return service
			}
		}
	}
	return ""
}

// apart returns the rules that go and those that come, each as often as it does.
func apart(before, after []string) (goes, comes []string) {
	count := make(map[string]int, len(before))
	for _, rule := range before {
		count[canonical(rule)]++
	}
	for _, rule := range after {
		if is := canonical(rule); count[is] > 0 {
			count[is]--
		} else {
			comes = append(comes, rule)
		}
	}
	for _, rule := range before {
		if is := canonical(rule); count[is] > 0 {
			count[is]--
			goes = append(goes, rule)
		}
	}
	return goes, comes
}
