package main

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/difference"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// maxListed of a list are on one line of text; a person looks at no more.
const maxListed = 8

// writeComparison prints a comparison for people: a line for each Service that is different, below it
// what is different of it, and totals. It returns the exit code.
func writeComparison(w io.Writer, c *comparison) int {
	var totals difference.Totals
	for s := range difference.Between(c.before, c.after, c.block.names.Index(nil)) {
		totals.Add(&s)
		fmt.Fprintf(w, "%c Service %s, %s\n", s.Mark, s.Name, describeBoth(s.Before, s.After))
		writeLines(w, &s)
	}
	writeTotals(w, &totals)
	return c.exitCode(&totals)
}

// writeLines prints what is different of a Service.
func writeLines(w io.Writer, s *difference.Service) {
	for i := range s.Names {
		n := &s.Names[i]
		for j := range n.Records {
			r := &n.Records[j]
			mark, text := describeRecords(r)
			writeLine(w, mark, n.Stops && mark != difference.Added, n.Name+" "+r.Type+" "+text)
		}
	}
	for i := range s.Frontends {
		f := &s.Frontends[i]
		writeLine(w, f.Mark, f.Stops, describeKey(f.Key)+" "+describeFrontend(f))
	}
}

func writeLine(w io.Writer, mark difference.Mark, stops bool, text string) {
	if stops {
		text += " [stops]"
	}
	fmt.Fprintf(w, "  %c %s\n", mark, text)
}

// describeBoth says what a Service is, and what it is today if that is something else.
func describeBoth(before, after *cluster.Service) string {
	switch {
	case before == nil:
		return describe(after)
	case after == nil:
		return describe(before)
	}
	if was, is := describe(before), describe(after); was != is {
		return is + "; today " + was
	}
	return describe(after)
}

// describe returns "ClusterIP 10.43.0.7, ports http 80/TCP".
func describe(s *cluster.Service) string {
	var text string
	switch s.Kind {
	case cluster.KindExternalName:
		return "ExternalName " + s.ExternalName
	case cluster.KindHeadless:
		text = "headless"
	default:
		text = "ClusterIP " + listed(texts(s.ClusterIPs))
		if len(s.ClusterIPs) == 0 {
			text = "without a ClusterIP"
		}
	}
	var ports []string
	for _, p := range s.Ports {
		ports = append(ports, strings.TrimSpace(fmt.Sprintf("%s %d/%s", p.Name, p.Port, p.Protocol)))
	}
	if len(ports) > 0 {
		text += ", ports " + listed(ports)
	}
	return text
}

func describeRecords(r *difference.Records) (difference.Mark, string) {
	switch {
	case len(r.Before) == 0:
		return difference.Added, listed(r.After)
	case len(r.After) == 0:
		return difference.Removed, listed(r.Before)
	case slices.Equal(r.Before, r.After):
		return difference.Changed, listed(r.After) + ": the Service has lost its last usable endpoint"
	}
	return difference.Changed, changed(r.Before, r.After)
}

// describeKey is the text of a Key that also tells the NodePorts of the IP families apart.
func describeKey(k plan.Key) string {
	if k.At.Addr() == netip.IPv6Unspecified() {
		return k.String() + " of IPv6"
	}
	return k.String()
}

func describeFrontend(f *difference.Frontend) string {
	switch {
	case f.Before == nil:
		return describeTarget(f.After) + ofService(", from Service ", f.From)
	case f.After == nil:
		return describeTarget(f.Before) + ofService(", goes to Service ", f.To)
	case f.Before.Verdict != f.After.Verdict || f.Before.Verdict != plan.Forward:
		return describeTarget(f.After) + "; today " + describeTarget(f.Before)
	}
	text := "-> " + changed(endpoints(f.Before), endpoints(f.After))
	if was, is := terms(f.Before), terms(f.After); was != is {
		text += is + "; today" + cmp.Or(was, " without conditions")
	}
	return text
}

func ofService(what string, name cluster.ServiceName) string {
	if name == (cluster.ServiceName{}) {
		return ""
	}
	return what + name.String()
}

func describeTarget(t *difference.Target) string {
	switch t.Verdict {
	case plan.Forward:
		return "-> " + listed(endpoints(t)) + terms(t)
	case plan.Drop:
		return "drops: all endpoints are on other nodes" + terms(t)
	}
	return "refuses: no usable endpoint"
}

// terms says in brackets what holds for connections, or "" for nothing in particular.
func terms(t *difference.Target) string {
	all := t.Terms
	if len(t.Sources) > 0 {
		all = append(slices.Clip(all), "only from "+listed(texts(t.Sources)))
	}
	if len(all) == 0 {
		return ""
	}
	return " (" + strings.Join(all, "; ") + ")"
}

// endpoints are those of a target as texts.
func endpoints(t *difference.Target) []string {
	out := texts(t.Endpoints)
	for i := range t.Weights {
		out[i] += fmt.Sprintf(" weight %d", t.Weights[i])
	}
	return out
}

func texts[T fmt.Stringer](of []T) []string {
	out := make([]string, len(of))
	for i := range of {
		out[i] = of[i].String()
	}
	return out
}

// listed is a list on one line.
func listed(all []string) string {
	text := strings.Join(all[:min(len(all), maxListed)], ", ")
	if n := len(all) - maxListed; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// changed says what came to a list and went from it: "+ a, b - c".
func changed(before, after []string) string {
	came, went := without(after, before), without(before, after)
	var parts []string
	if len(came) > 0 {
		parts = append(parts, "+ "+listed(came))
	}
	if len(went) > 0 {
		parts = append(parts, "- "+listed(went))
	}
	if len(parts) == 0 {
		return listed(after)
	}
	return strings.Join(parts, " ")
}

// without returns those of a list that are not in another.
func without(all, others []string) []string {
	in := make(map[string]bool, len(others))
	for _, text := range others {
		in[text] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(text string) bool { return in[text] })
}

func writeTotals(w io.Writer, t *difference.Totals) {
	if *t == (difference.Totals{}) {
		fmt.Fprintln(w, "Nothing changes.")
		return
	}
	count := func(what string, c difference.Count) {
		fmt.Fprintf(w, "%s: %d added, %d removed, %d changed\n", what, c.Added, c.Removed, c.Changed)
	}
	count("Services", t.Services)
	count("Names", t.Names)
	count("Addresses", t.Frontends)
	if t.Stops() > 0 {
		fmt.Fprintf(w, "What works today and would stop: names %d, addresses %d\n", t.Names.Stops, t.Frontends.Stops)
	}
}
