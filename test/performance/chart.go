package performance

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// panel is a part of the chart: a bar for each side at each size, in groups by size.
type panel struct {
	title  string
	linear bool // from 0, otherwise by powers of ten
	value  func(*Side) float64
	reach  func(*Side) float64 // where a line goes on to from the end of the bar; nil: nowhere
	show   func(float64) string
}

var panels = []panel{
	{title: "Start to first packet (log scale)", value: func(s *Side) float64 { return float64(s.FirstPacket) }, show: showDuration},
	{title: "A pod is replaced: median, 99th percentile (log scale)", value: func(s *Side) float64 { return float64(s.Change.P50) },
		reach: func(s *Side) float64 { return float64(s.Change.P99) }, show: showDuration},
	{title: "Processor time for that (log scale)", value: func(s *Side) float64 { return float64(s.ChangeCPU) }, show: showDuration},
	{title: "Memory after the changes", linear: true, value: func(s *Side) float64 { return float64(s.RSSChanged) },
		show: func(v float64) string { return number(int(v), " MiB") }},
	{title: "A client connects: median", linear: true, value: func(s *Side) float64 { return float64(s.Connect.P50) }, show: showDuration},
	{title: "Connections a second", linear: true, value: func(s *Side) float64 { return s.ConnectsPerSecond },
		show: func(v float64) string { return number(int(v), "") }},
}

func showDuration(v float64) string { return duration(time.Duration(v)) }

// Lengths in the chart, in pixels.
const (
	chartWidth  = 920
	panelColumn = chartWidth / 2
	labelWidth  = 64  // of the sizes, left of the bars
	barsWidth   = 290 // the values stand right of them
	barHeight   = 13
	barStep     = 16
	groupGap    = 10
	legendTop   = 44
	panelTop    = 34 // above the bars, for the title
	axisHeight  = 36 // below them
)

const style = `<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.back { fill: #ffffff } .grid { stroke: #d8dee4 } .reach { stroke: #24292f } .small { font-size: 11px; fill: #57606a } .title { font-weight: 600 }
.side0 { fill: #2f6fde } .side1 { fill: #d9771f } .side2 { fill: #8a63d2 } .side3 { fill: #2da44e }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .back { fill: #0d1117 } .grid { stroke: #30363d } .reach { stroke: #e6edf3 } .small { fill: #9198a1 }
}
</style>
`

// Chart is an SVG picture of the results, for light and dark pages.
func (n NAT) Chart() string {
	names, groups := n.names(), n.groups()
	height := panelTop + axisHeight + len(groups)*groupGap
	for _, g := range groups {
		height += len(g) * barStep
	}
	var out strings.Builder
	rows := (len(panels) + 1) / 2
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">`+"\n", chartWidth, legendTop+rows*height)
	fmt.Fprintf(&out, "<title>%s, by the number of Services</title>\n%s<rect class=\"back\" width=\"100%%\" height=\"100%%\"/>\n", strings.Join(names, " and "), style)
	for i, name := range names {
		x := 16 + i*200
		fmt.Fprintf(&out, `<rect class="side%d" x="%d" y="14" width="14" height="14"/><text x="%d" y="25">%s</text>`+"\n", i, x, x+20, name)
	}
	for i := range panels {
		fmt.Fprintf(&out, `<g transform="translate(%d %d)">`+"\n", i%2*panelColumn, legendTop+i/2*height)
		panels[i].draw(&out, names, groups, height)
		out.WriteString("</g>\n")
	}
	out.WriteString("</svg>\n")
	return out.String()
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

func (p *panel) draw(out *strings.Builder, names []string, groups [][]Side, height int) {
	scale := p.scaleOf(groups)
	fmt.Fprintf(out, `<text class="title" x="16" y="20">%s</text>`+"\n", p.title)
	for _, at := range scale.ticks {
		x := labelWidth + scale.length(at)
		fmt.Fprintf(out, `<path class="grid" d="M%.1f %d V%d"/><text class="small" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x, panelTop-4, height-axisHeight, x, height-axisHeight+14, p.tick(at))
	}
	y := panelTop
	for _, g := range groups {
		fmt.Fprintf(out, `<text class="small" x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labelWidth-8, y+len(g)*barStep/2+3, number(g[0].Services, ""))
		for i := range g {
			p.bar(out, scale, &g[i], slices.Index(names, g[i].Name), y)
			y += barStep
		}
		y += groupGap
	}
}

func (p *panel) bar(out *strings.Builder, s scale, side *Side, color, y int) {
	v := p.value(side)
	if v == 0 {
		fmt.Fprintf(out, `<text class="small" x="%d" y="%d">not measured</text>`+"\n", labelWidth+4, y+11)
		return
	}
	end := labelWidth + s.length(v)
	fmt.Fprintf(out, `<rect class="side%d" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n", color, labelWidth, y, end-labelWidth, barHeight)
	text := p.show(v)
	if p.reach != nil {
		to := labelWidth + s.length(p.reach(side))
		fmt.Fprintf(out, `<path class="reach" d="M%.1f %d H%.1f m0 -4 v8"/>`+"\n", end, y+barHeight/2, to)
		end, text = to, text+", "+p.show(p.reach(side))
	}
	fmt.Fprintf(out, `<text class="small" x="%.1f" y="%d">%s</text>`+"\n", end+5, y+11, text)
}

func (p *panel) tick(at float64) string {
	if at == 0 {
		return "0"
	}
	text := p.show(at)
	value, unit, _ := strings.Cut(text, " ")
	if strings.Contains(value, ".") {
		value = strings.TrimRight(strings.TrimRight(value, "0"), ".")
	}
	return strings.TrimSpace(value + " " + unit)
}

// scale says how long the bar of a value is.
type scale struct {
	ticks  []float64
	length func(float64) float64
}

// scaleOf has room for all values of a panel.
func (p *panel) scaleOf(groups [][]Side) scale {
	low, high := math.Inf(1), 1.0
	for _, g := range groups {
		for i := range g {
			v := p.value(&g[i])
			if high = max(high, v); v > 0 {
				low = min(low, v)
			}
			if p.reach != nil {
				high = max(high, p.reach(&g[i]))
			}
		}
	}
	if p.linear {
		step := niceStep(high / 4)
		var ticks []float64
		for at := 0.0; at <= high; at += step {
			ticks = append(ticks, at)
		}
		return scale{ticks, func(v float64) float64 { return v / high * barsWidth }}
	}
	from, to := math.Floor(math.Log10(min(low, high))-.05), math.Log10(high)
	var ticks []float64
	for at := from; at <= to; at++ {
		ticks = append(ticks, math.Pow(10, at))
	}
	return scale{ticks, func(v float64) float64 { return max(1, (math.Log10(v)-from)/(to-from)*barsWidth) }}
}

// niceStep is 1, 2 or 5 times a power of ten, and not less than what is asked for.
func niceStep(least float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(least)))
	for _, factor := range []float64{1, 2, 5} {
		if factor*power >= least {
			return factor * power
		}
	}
	return 10 * power
}
