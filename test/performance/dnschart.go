package performance

import (
	"fmt"
	"slices"
)

// dnsPanel is a panel with a group for each of the kinds that are shown.
type dnsPanel struct {
	panel
	value func(*Answers) bar
}

var dnsPanels = []dnsPanel{
	{panel{title: "Processor time of the server for an answer", linear: true, show: showDuration}, func(a *Answers) bar { return bar{value: float64(a.CPU)} }},
	{panel{title: "Answers a second, at most", linear: true, show: showNumber}, func(a *Answers) bar { return bar{value: a.PerSecond} }},
	{panel{title: "At half of what CoreDNS can: median, 99th percentile (log scale)", reach: true, show: showDuration},
		func(a *Answers) bar { return bar{float64(a.P50), float64(a.P99)} }},
}

// shownKinds are in the chart, where they were asked about all names, with a short name. The
// others are in the tables.
var shownKinds = []struct{ kind, label string }{
	{"A of a ClusterIP", "ClusterIP A"},
	{"A of a headless Service, 10", "headless A, 10"},
	{"SRV of a headless Service, 10", "headless SRV, 10"},
	{"A, no such name", "no such name"},
	{"mix of ndots:5", "mix of ndots:5"},
}

// Chart is an SVG picture of the results at the largest size.
func (d DNS) Chart() string {
	c := chart{title: "Name servers beside one another", labels: 110}
	var servers []NameServer
	if sizes := d.bySize(); len(sizes) > 0 {
		servers = slices.MaxFunc(sizes, func(a, b []NameServer) int { return a[0].Services - b[0].Services })
		c.title = fmt.Sprintf("%s, %s Services", c.title, number(servers[0].Services, ""))
	}
	for _, s := range servers {
		c.sides = append(c.sides, s.Name)
	}
	for _, p := range dnsPanels {
		made := p.panel
		for _, shown := range shownKinds {
			g := group{label: shown.label}
			for i := range servers {
				var b bar
				if a := servers[i].find(shown.kind, false); a != nil {
					b = p.value(a)
				}
				g.bars = append(g.bars, b)
			}
			made.groups = append(made.groups, g)
		}
		c.panels = append(c.panels, made)
	}
	memory := panel{title: "Memory", linear: true, show: showMiB, groups: make([]group, 3)}
	for i, label := range []string{"at first", "all names asked", "at most"} {
		memory.groups[i].label = label
		for k := range servers {
			value := []int{servers[k].RSSStart, servers[k].RSSAsked, servers[k].RSSMost}[i]
			memory.groups[i].bars = append(memory.groups[i].bars, bar{value: float64(value)})
		}
	}
	c.panels = append(c.panels, memory)
	return c.svg()
}
