package performance

import (
	"slices"
	"strings"
)

// natPanel is a panel with a group for each size.
type natPanel struct {
	panel
	value   func(*Side) float64
	reaches func(*Side) float64 // nil: nothing
}

var natPanels = []natPanel{
	{panel{title: "Start to first packet (log scale)", show: showDuration}, func(s *Side) float64 { return float64(s.FirstPacket) }, nil},
	{panel{title: "A pod is replaced: median, 99th percentile (log scale)", show: showDuration}, func(s *Side) float64 { return float64(s.Change.P50) },
		func(s *Side) float64 { return float64(s.Change.P99) }},
	{panel{title: "Processor time for that (log scale)", show: showDuration}, func(s *Side) float64 { return float64(s.ChangeCPU) }, nil},
	{panel{title: "Memory after the changes", linear: true, show: showMiB}, func(s *Side) float64 { return float64(s.RSSChanged) }, nil},
	{panel{title: "A client connects: median", linear: true, show: showDuration}, func(s *Side) float64 { return float64(s.Connect.P50) }, nil},
	{panel{title: "Connections a second", linear: true, show: showNumber}, func(s *Side) float64 { return s.ConnectsPerSecond }, nil},
}

// Chart is an SVG picture of the results.
func (n NAT) Chart() string {
	c := chart{sides: n.names(), labels: 64}
	c.title = strings.Join(c.sides, " and ") + ", by the number of Services"
	for _, p := range natPanels {
		made := p.panel
		made.reach = p.reaches != nil
		for _, sides := range n.groups() {
			g := group{number(sides[0].Services, ""), make([]bar, len(c.sides))}
			for i := range sides {
				b := &g.bars[slices.Index(c.sides, sides[i].Name)]
				if b.value = p.value(&sides[i]); p.reaches != nil {
					b.reach = p.reaches(&sides[i])
				}
			}
			made.groups = append(made.groups, g)
		}
		c.panels = append(c.panels, made)
	}
	return c.svg()
}

// names are those of the sides, each once.
func (n NAT) names() []string {
	var out []string
	for _, s := range n {
		if !slices.Contains(out, s.Name) {
			out = append(out, s.Name)
		}
	}
	return out
}

// groups are the sides by size.
func (n NAT) groups() [][]Side {
	var out [][]Side
	for i, s := range n {
		if i == 0 || s.Services != n[i-1].Services {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], s)
	}
	return out
}
