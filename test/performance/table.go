package performance

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A column of a table; what it shows of a side is "" if that was not measured.
type column[S side] struct {
	title string
	show  func(*S) string
}

// table is one, with a line for each side of which it shows something.
type table[S side] struct {
	title   string
	columns []column[S]
}

// side is one of those that a table has lines of, at a number of Services.
type side interface {
	Side | NameServer
	called() (name string, services int)
}

func (s Side) called() (string, int) { return s.Name, s.Services }

func (n NameServer) called() (string, int) { return n.Name, n.Services }

var tables = []table[Side]{
	{"The process starts", []column[Side]{
		{"first packet", func(s *Side) string { return duration(s.FirstPacket) }},
		{"everything written", func(s *Side) string { return duration(s.FullSync) }},
		{"another writer waits at most", func(s *Side) string { return duration(s.LongestWait) }},
		{"memory", func(s *Side) string { return number(s.RSSStart, " MiB") }},
		{"memory after the changes", func(s *Side) string { return number(s.RSSChanged, " MiB") }},
	}},
	{"A pod is replaced by another", []column[Side]{
		{"median", func(s *Side) string { return duration(s.Change.P50) }},
		{"99th percentile", func(s *Side) string { return duration(s.Change.P99) }},
		{"processor time", func(s *Side) string { return duration(s.ChangeCPU) }},
		{"writing alone, by its own metric", func(s *Side) string { return duration(s.ChangeOwn) }},
		{"one rule of somebody else", func(s *Side) string { return duration(s.OneRule) }},
		{"changes", func(s *Side) string { return number(s.Change.Count, "") }},
	}},
	{"A client connects", []column[Side]{
		{"median", func(s *Side) string { return duration(s.Connect.P50) }},
		{"99th percentile", func(s *Side) string { return duration(s.Connect.P99) }},
		{"connections a second", func(s *Side) string { return number(int(s.ConnectsPerSecond), "") }},
		{"failed", failed},
	}},
	{"As many changes as can be made, but no more than 1,000 a second", []column[Side]{
		{"changes a second", rate(func(r *Rate) string { return number(int(r.PerSecond+.5), "") })},
		{"processors", rate(func(r *Rate) string { return fmt.Sprintf("%.2f", r.CPU) })},
		{"the kernel is behind by", rate(func(r *Rate) string { return duration(r.Behind.P50) })},
		{"99th percentile", rate(func(r *Rate) string { return duration(r.Behind.P99) })},
		{"at most", rate(func(r *Rate) string { return duration(r.Behind.Max) })},
	}},
	{"Another Service changes while one with many endpoints comes, changes and goes", []column[Side]{
		{"ports x endpoints", large(func(l *Large) string { return fmt.Sprintf("%d x %s", l.Ports, number(l.Endpoints, "")) })},
		{"usually at most", large(func(l *Large) string { return duration(l.Usual.Max) })},
		{"while it comes", large(func(l *Large) string { return l.Comes.small() })},
		{"changes", large(func(l *Large) string { return l.Changes.small() })},
		{"goes", large(func(l *Large) string { return l.Goes.small() })},
		{"another writer waits at most", large(func(l *Large) string { return duration(l.LongestWait) })},
		{"it comes within", large(func(l *Large) string { return l.Comes.took() })},
		{"changes within", large(func(l *Large) string { return l.Changes.took() })},
		{"memory", large(func(l *Large) string { return number(l.RSS, " MiB") })},
	}},
}

func failed(s *Side) string {
	if s.ConnectsFailed == 0 && s.Connect.Count > 0 {
		return "0"
	}
	return number(s.ConnectsFailed, "")
}

func rate(show func(*Rate) string) func(*Side) string {
	return func(s *Side) string {
		if s.Rate == nil {
			return ""
		}
		return show(s.Rate)
	}
}

func large(show func(*Large) string) func(*Side) string {
	return func(s *Side) string {
		if s.Large == nil {
			return ""
		}
		return show(s.Large)
	}
}

func (p *Phase) small() string {
	if p.Over {
		return "over " + duration(p.Small.Max)
	}
	return duration(p.Small.Max)
}

func (p *Phase) took() string {
	if p.Over {
		return "over " + duration(p.Took)
	}
	return duration(p.Took)
}

// Tables are in Markdown. A table of what was not measured is left out.
func (n NAT) Tables() string {
	var out strings.Builder
	for _, t := range tables {
		t.write(&out, n)
	}
	return strings.TrimLeft(out.String(), "\n")
}

// write leaves out sides and columns of which nothing was measured.
func (t *table[S]) write(out *strings.Builder, sides []S) {
	var columns []column[S]
	for _, c := range t.columns {
		if slices.ContainsFunc(sides, func(s S) bool { return c.show(&s) != "" }) {
			columns = append(columns, c)
		}
	}
	if len(columns) == 0 {
		return
	}
	titles, rule := []string{"Services", ""}, []string{"---:", "---"}
	for _, c := range columns {
		titles, rule = append(titles, c.title), append(rule, "---:")
	}
	fmt.Fprintf(out, "\n**%s**\n\n%s%s", t.title, line(titles), line(rule))
	last := 0
	for i := range sides {
		name, services := sides[i].called()
		cells, empty := []string{"", name}, true
		if services != last {
			cells[0] = number(services, "")
		}
		for _, c := range columns {
			text := c.show(&sides[i])
			if empty = empty && text == ""; text == "" {
				text = "-"
			}
			cells = append(cells, text)
		}
		if !empty {
			out.WriteString(line(cells))
			last = services
		}
	}
}

func line(cells []string) string { return "| " + strings.Join(cells, " | ") + " |\n" }

// duration has three digits; it is "" for 0.
func duration(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{time.Second, "s"}, {time.Millisecond, "ms"}, {time.Microsecond, "µs"}} {
		if value := float64(d) / float64(u.unit); value >= 1 {
			return digits(value) + " " + u.name
		}
	}
	return ""
}

func digits(value float64) string {
	switch {
	case value >= 99.95:
		return number(int(value+.5), "")
	case value >= 9.995:
		return fmt.Sprintf("%.1f", value)
	default:
		return fmt.Sprintf("%.2f", value)
	}
}

// number has commas; it is "" for 0.
func number(n int, unit string) string {
	if n == 0 {
		return ""
	}
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text + unit
}
