package performance

import (
	"fmt"
	"slices"
	"strings"
)

// ours is compared with each of peers in columns of their own.
const ours = "clusterip"

var peers = []string{"CoreDNS", "Knot"}

// grid is a table with a line for each kind of question and a column for each server.
type grid struct {
	title string
	// value is what is compared, 0 if it was not measured.
	value func(*Answers) float64
	show  func(*Answers) string
}

var grids = []grid{
	{"Processor time of the server for an answer", func(a *Answers) float64 { return float64(a.CPU) }, func(a *Answers) string { return duration(a.CPU) }},
	{"Answers a second, at most", func(a *Answers) float64 { return a.PerSecond }, func(a *Answers) string { return number(int(a.PerSecond), "") }},
	{"Answers a second, at most, as dnsperf asks", func(a *Answers) float64 { return a.Dnsperf }, func(a *Answers) string { return number(int(a.Dnsperf), "") }},
	{"From question to answer, at half of what CoreDNS can: median, 99th percentile (compared)", func(a *Answers) float64 { return float64(a.P99) },
		func(a *Answers) string { return duration(a.P50) + ", " + duration(a.P99) }},
}

var serverTables = []table[NameServer]{
	{"The process", []column[NameServer]{
		{"start to first answer", func(n *NameServer) string { return duration(n.Start) }},
		{"memory then", func(n *NameServer) string { return number(n.RSSStart, " MiB") }},
		{"when every name was asked for", func(n *NameServer) string { return number(n.RSSAsked, " MiB") }},
		{"at most, under load", func(n *NameServer) string { return number(n.RSSMost, " MiB") }},
	}},
	{"Endpoints change meanwhile", []column[NameServer]{
		{"questions a second", changing(func(c *Changing) string { return number(int(c.Asked), "") })},
		{"changes a second", changing(func(c *Changing) string { return number(int(c.PerSecond+.5), "") })},
		{"median", changing(func(c *Changing) string { return duration(c.P50) })},
		{"99th percentile", changing(func(c *Changing) string { return duration(c.P99) })},
		{"without changes", changing(func(c *Changing) string { return duration(c.Quiet) })},
	}},
	{"Twice as many questions as it can answer on one processor", []column[NameServer]{
		{"answers a second, at most", overload(func(o *Overload) string { return number(int(o.Most), "") })},
		{"questions a second", overload(func(o *Overload) string { return number(int(o.Asked), "") })},
		{"answers a second", overload(func(o *Overload) string { return number(int(o.Answered), "") })},
		{"of its most", overload(func(o *Overload) string { return fmt.Sprintf("%.0f %%", o.Answered/o.Most*100) })},
		{"memory at most", overload(func(o *Overload) string { return number(o.RSS, " MiB") })},
	}},
}

func changing(show func(*Changing) string) func(*NameServer) string {
	return func(n *NameServer) string {
		if n.Changes == nil {
			return ""
		}
		return show(n.Changes)
	}
}

func overload(show func(*Overload) string) func(*NameServer) string {
	return func(n *NameServer) string {
		if n.Overload == nil {
			return ""
		}
		return show(n.Overload)
	}
}

// Tables are in Markdown. A table of what was not measured is left out.
func (d DNS) Tables() string {
	var out strings.Builder
	for _, servers := range d.bySize() {
		for i := range grids {
			grids[i].write(&out, servers)
		}
	}
	for _, t := range serverTables {
		t.write(&out, d)
	}
	return strings.TrimLeft(out.String(), "\n")
}

// asked is what stands in a line: a kind of question about some names.
type asked struct {
	kind string
	few  bool
}

// lines are the kinds of which something was measured.
func (g *grid) lines(servers []NameServer) (out []asked) {
	for i := range servers {
		for k := range servers[i].Answers {
			a := &servers[i].Answers[k]
			if line := (asked{a.Kind, a.Few}); g.value(a) > 0 && !slices.Contains(out, line) {
				out = append(out, line)
			}
		}
	}
	return out
}

func (g *grid) write(out *strings.Builder, servers []NameServer) {
	lines := g.lines(servers)
	if len(lines) == 0 {
		return
	}
	titles, rule := []string{"", "names"}, []string{"---", "---"}
	for _, s := range servers {
		titles, rule = append(titles, s.Name), append(rule, "---:")
	}
	compared := comparisons(servers)
	for _, peer := range compared {
		titles, rule = append(titles, ours+" / "+peer), append(rule, "---:")
	}
	fmt.Fprintf(out, "\n**%s, %s Services**\n\n%s%s", g.title, number(servers[0].Services, ""), line(titles), line(rule))
	for i, l := range lines {
		cells := []string{l.kind, map[bool]string{false: "all", true: "few"}[l.few]}
		if i > 0 && lines[i-1].kind == l.kind {
			cells[0] = ""
		}
		values := make(map[string]float64)
		for k := range servers {
			cell := "-"
			if a := servers[k].find(l.kind, l.few); a != nil && g.value(a) > 0 {
				values[servers[k].Name], cell = g.value(a), g.show(a)
			}
			cells = append(cells, cell)
		}
		for _, peer := range compared {
			cell := "-"
			if values[ours] > 0 && values[peer] > 0 {
				cell = fmt.Sprintf("%.2f", values[ours]/values[peer])
			}
			cells = append(cells, cell)
		}
		out.WriteString(line(cells))
	}
}

// comparisons are the peers that were measured, if ours was.
func comparisons(servers []NameServer) []string {
	measured := func(name string) bool {
		return slices.ContainsFunc(servers, func(n NameServer) bool { return n.Name == name })
	}
	if !measured(ours) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(peers), func(name string) bool { return !measured(name) })
}
