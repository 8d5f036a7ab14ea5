package nftables

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
)

// Rules prints what Sync would write to a kernel without any rules, on this node, as nft
// reads it. It writes nothing to the kernel.
func Rules(w io.Writer, family cluster.Family, state kernelnat.State, settings netfilter.Settings) error {
	return RulesFor(w, family, state, settings, nil)
}

// RulesFor is Rules where pools lead to virtual servers of a Chooser.
func RulesFor(w io.Writer, family cluster.Family, state kernelnat.State, settings netfilter.Settings, chooser Chooser) error {
	schema := newSchema(family, settings.CountEndpoints)
	d, err := dialectOf(language{family}, settings, state)
	if err != nil {
		return err
	}
	d.virtual = rangeOf(chooser)
	l := listing{of: make(map[*set][]string)}
	made := newState(schema).chosenBy(chooser)
	for i := range state.Services {
		made.change(&l, nil, made.target(nil, &state.Services[i]))
	}
	for _, number := range slices.Sorted(maps.Keys(made.classIDs)) {
		of := made.classIDs[number]
		for _, set := range schema.classesOf(of) {
			l.put(set, appendNumber(nil, number), []byte(of.name()), "")
		}
	}
	return print(w, schema, d, &l, made.classChains(d))
}

// listing is a writer that writes as nft reads.
type listing struct{ of map[*set][]string }

func (l *listing) put(s *set, key, data []byte, comment string) {
	l.of[s] = append(l.of[s], elementText(s, key, data, comment))
}

func (l *listing) remove(*set, []byte) {}

// elementText is an element as nft reads it.
func elementText(s *set, key, data []byte, comment string) string {
	e := text(s.key, key)
	if half := len(key) / 2; s.flags&nftSetConcat != 0 {
		e = rangeText(s, key[:half], key[half:])
	}
	if comment != "" {
		e += fmt.Sprintf(" comment %q", comment)
	}
	switch {
	case s.hasVerdicts():
		e += " : goto " + string(data)
	case s.isMap():
		e += " : " + text(s.data, data)
	}
	return e
}

// rangeText is the key of a set of ranges, whose last part is one.
func rangeText(s *set, first, last []byte) string {
	out := text(s.key, first)
	end := s.key[len(s.key)-1]
	if from, to := end.text(first[len(first)-end.size:]), end.text(last[len(last)-end.size:]); from != to {
		out += "-" + to
	}
	return out
}

// print writes all of a table. Chains are declared before rules lead to them.
func print(w io.Writer, schema *schema, d dialect, l *listing, classes []chain) error {
	var out strings.Builder
	fmt.Fprintf(&out, "table %s %s {\n", d.ip(), tableName)
	for _, s := range schema.sets() {
		fmt.Fprintf(&out, "\t%s %s {\n\t\t%s\n", s.word(), s.name, s.declaration())
		if s.size > 0 {
			fmt.Fprintf(&out, "\t\tsize %d\n\t\tflags dynamic,timeout\n", s.size)
		}
		if s.flags&nftSetConcat != 0 {
			fmt.Fprint(&out, "\t\tflags interval\n")
		}
		if s.counted {
			fmt.Fprint(&out, "\t\tcounter\n")
		}
		if elements := l.of[s]; len(elements) > 0 {
			fmt.Fprintf(&out, "\t\telements = {\n\t\t\t%s\n\t\t}\n", strings.Join(elements, ",\n\t\t\t"))
		}
		fmt.Fprint(&out, "\t}\n")
	}
	for _, c := range slices.Concat(classes, schema.fixedChains(d)) {
		fmt.Fprintf(&out, "\tchain %s {\n", c.name)
		if c.hook != nil {
			fmt.Fprintf(&out, "\t\t%s\n", c.hook)
		}
		for _, r := range c.rules {
			fmt.Fprintf(&out, "\t\t%s\n", r)
		}
		fmt.Fprint(&out, "\t}\n")
	}
	fmt.Fprint(&out, "}\n")
	_, err := io.WriteString(w, out.String())
	return err
}
