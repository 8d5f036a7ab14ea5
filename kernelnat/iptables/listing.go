package iptables

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
)

// listing is some chains of a variant and family, as they are listed for one reader.
type listing struct {
	ctx    context.Context
	tools  *tools
	chains map[chainKey]listedChain
	err    error
}

type listedChain struct {
	rules []string
	there bool
}

func newListing(ctx context.Context, t *tools) *listing {
	return &listing{ctx: ctx, tools: t, chains: make(map[chainKey]listedChain)}
}

// listed reports whether it is known what a chain has.
func (l *listing) listed(key chainKey) bool { _, known := l.chains[key]; return known }

// chain returns a chain, which is listed if it is not yet.
func (l *listing) chain(table, name string) listedChain {
	key := chainKey{table, name}
	l.list([]chainKey{key})
	return l.chains[key]
}

// list lists chains, those that are listed already left out. One run lists all that are there: a run
// takes some milliseconds, however little it lists.
func (l *listing) list(keys []chainKey) {
	left := slices.DeleteFunc(slices.Clone(keys), l.listed)
	slices.SortFunc(left, func(a, b chainKey) int { return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.name, b.name)) })
	left = slices.Compact(left)
	for len(left) > 1 && l.err == nil {
		some := l.some(left)
		left = left[some:]
		// Its run has ended at a chain that is not there, and does not say so in all variants.
		if len(left) > 0 {
			l.one(left[0])
			left = left[1:]
		}
	}
	if len(left) > 0 && l.err == nil {
		l.one(left[0])
	}
}

// some lists chains, sorted, up to the first that cannot be listed, and returns how many. What it has
// iptables-restore read are commands to list, which change nothing: the nft variant runs them when
// it commits, and the legacy one, which would then write the table, is kept from that.
func (l *listing) some(keys []chainKey) (read int) {
	var s script
	for i, key := range keys {
		if i == 0 || keys[i-1].table != key.table {
			s.beginTable(key.table)
		}
		s.list(key.name)
		if i+1 == len(keys) || keys[i+1].table != key.table {
			s.commit()
		}
	}
	args := []string{"--noflush"}
	if l.tools.variant == legacy {
		args = append(args, "--test")
	}
	var out strings.Builder
	run := execution{path: l.tools.restore, args: args, stdin: s.buf.Bytes(), stdout: &out, timeout: listTimeout, explain: explainSave}
	if err := run.do(l.ctx); errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		l.err = err // of any other error one says what is wrong, about the first that is not listed
		return 0
	}
	for line := range strings.Lines(out.String()) {
		words := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 3)
		switch {
		case len(words) > 1 && (words[0] == "-N" || words[0] == "-P") && read < len(keys) && words[1] == keys[read].name:
			l.chains[keys[read]] = listedChain{there: true}
			read++
		case len(words) == 3 && words[0] == "-A" && read > 0 && words[1] == keys[read-1].name:
			c := l.chains[keys[read-1]]
			c.rules = append(c.rules, words[2])
			l.chains[keys[read-1]] = c
		}
	}
	return read
}

// noChain is what iptables says of a chain or table that is not there.
var noChain = []string{"No chain/target/match by that name", "does not exist", "Table does not exist", "incompatible, use 'nft' tool"}

// one lists a chain that may not be there.
func (l *listing) one(key chainKey) {
	var out strings.Builder
	missing := false
	err := execution{
		path: strings.TrimSuffix(l.tools.save, "-save"), args: []string{"-t", key.table, "-S", key.name}, stdout: &out, timeout: listTimeout,
		explain: func(stderr string) error {
			missing = slices.ContainsFunc(noChain, func(text string) bool { return strings.Contains(stderr, text) })
			return explainSave(stderr)
		},
	}.do(l.ctx)
	if err != nil && !missing {
		l.err = err
		return
	}
	c := listedChain{there: !missing}
	for line := range strings.Lines(out.String()) {
		if rule, is := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "-A "+key.name+" "); is {
			c.rules = append(c.rules, rule)
		}
	}
	l.chains[key] = c
}
