package performance

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// chart is a picture of panels, for light and dark pages.
type chart struct {
	title  string
	sides  []string // each has a color
	labels int      // width of what stands left of the bars
	panels []panel
}

// panel is a part of the chart: a bar for each side, in groups.
type panel struct {
	title  string
	linear bool // from 0, otherwise by powers of ten
	reach  bool // a line goes on from the end of each bar to what it reaches
	show   func(float64) string
	groups []group
}

type group struct {
	label string
	bars  []bar
}

// bar has what was measured of a side; 0 if nothing was.
type bar struct{ value, reach float64 }

func showDuration(v float64) string { return duration(time.Duration(v)) }

func showMiB(v float64) string { return number(int(v), " MiB") }

func showNumber(v float64) string { return number(int(v), "") }

// Lengths in the chart, in pixels.
const (
	chartWidth   = 920
	panelColumn  = chartWidth / 2
	contentWidth = 354 // labels and bars; the values stand right of them
	legendWidth  = 200 // of a side
	legendRow    = 20
	barHeight    = 13
	barStep      = 16
	groupGap     = 10
	legendTop    = 44
	panelTop     = 34 // above the bars, for the title
	axisHeight   = 36 // below them
)

const style = `<style>
text { font: 12px system-ui, sans-serif; fill: #24292f }
.back { fill: #ffffff } .grid { stroke: #d8dee4 } .reach { stroke: #24292f } .small { font-size: 11px; fill: #57606a } .title { font-weight: 600 }
.side0 { fill: #2f6fde } .side1 { fill: #d9771f } .side2 { fill: #8a63d2 } .side3 { fill: #2da44e } .side4 { fill: #cf4f7f } .side5 { fill: #1b998b }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .back { fill: #0d1117 } .grid { stroke: #30363d } .reach { stroke: #e6edf3 } .small { fill: #9198a1 }
}
</style>
`

// svg renders the chart.
func (c *chart) svg() string {
	height, legend := 0, legendTop+(len(c.sides)-1)/4*legendRow
	for i := range c.panels {
		height = max(height, c.panels[i].height())
	}
	var out strings.Builder
	rows := (len(c.panels) + 1) / 2
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img">`+"\n", chartWidth, legend+rows*height)
	fmt.Fprintf(&out, "<title>%s</title>\n%s<rect class=\"back\" width=\"100%%\" height=\"100%%\"/>\n", c.title, style)
	for i, name := range c.sides {
		x, y := 16+i%4*legendWidth, i/4*legendRow
		fmt.Fprintf(&out, `<rect class="side%d" x="%d" y="%d" width="14" height="14"/><text x="%d" y="%d">%s</text>`+"\n", i, x, y+14, x+20, y+25, name)
	}
	for i := range c.panels {
		fmt.Fprintf(&out, `<g transform="translate(%d %d)">`+"\n", i%2*panelColumn, legend+i/2*height)
		c.panels[i].draw(&out, c.labels, height)
		out.WriteString("</g>\n")
	}
	out.WriteString("</svg>\n")
	return out.String()
}

func (p *panel) height() int {
	height := panelTop + axisHeight + len(p.groups)*groupGap
	for _, g := range p.groups {
		height += len(g.bars) * barStep
	}
	return height
}

func (p *panel) draw(out *strings.Builder, labels, height int) {
	scale := p.scaleOf(float64(contentWidth - labels))
	fmt.Fprintf(out, `<text class="title" x="16" y="20">%s</text>`+"\n", p.title)
	for _, at := range scale.ticks {
		x := float64(labels) + scale.length(at)
		fmt.Fprintf(out, `<path class="grid" d="M%.1f %d V%d"/><text class="small" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			x, panelTop-4, height-axisHeight, x, height-axisHeight+14, p.tick(at))
	}
	y := panelTop
	for _, g := range p.groups {
		fmt.Fprintf(out, `<text class="small" x="%d" y="%d" text-anchor="end">%s</text>`+"\n", labels-8, y+len(g.bars)*barStep/2+3, g.label)
		for color, b := range g.bars {
			p.bar(out, scale, b, color, labels, y)
			y += barStep
		}
		y += groupGap
	}
}

func (p *panel) bar(out *strings.Builder, s scale, b bar, color, labels, y int) {
	if b.value == 0 {
		fmt.Fprintf(out, `<text class="small" x="%d" y="%d">not measured</text>`+"\n", labels+4, y+11)
		return
	}
	end := float64(labels) + s.length(b.value)
	fmt.Fprintf(out, `<rect class="side%d" x="%d" y="%d" width="%.1f" height="%d"/>`+"\n", color, labels, y, end-float64(labels), barHeight)
	text := p.show(b.value)
	if p.reach {
		to := float64(labels) + s.length(b.reach)
		fmt.Fprintf(out, `<path class="reach" d="M%.1f %d H%.1f m0 -4 v8"/>`+"\n", end, y+barHeight/2, to)
		end, text = to, text+", "+p.show(b.reach)
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

// scaleOf has room for all values of a panel in a width.
func (p *panel) scaleOf(width float64) scale {
	low, high := math.Inf(1), 1.0
	for _, g := range p.groups {
		for _, b := range g.bars {
			if high = max(high, b.value, b.reach); b.value > 0 {
				low = min(low, b.value)
			}
		}
	}
	if p.linear {
		step := niceStep(high / 4)
		var ticks []float64
		for at := 0.0; at <= high; at += step {
			ticks = append(ticks, at)
		}
		return scale{ticks, func(v float64) float64 { return v / high * width }}
	}
	from, to := math.Floor(math.Log10(min(low, high))-.05), math.Log10(high)
	var ticks []float64
	for at := from; at <= to; at++ {
		ticks = append(ticks, math.Pow(10, at))
	}
	return scale{ticks, func(v float64) float64 { return max(1, (math.Log10(v)-from)/(to-from)*width) }}
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
