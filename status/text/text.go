// Package text writes an Explanation for people: the verdict, what fails first and what mends
// it, and then all that is known. It is pure, and works nothing out: what it says is in the
// Explanation.
package text

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/clusterip/clusterip/status"
)

// Style is how a terminal shows it. The zero value is for files and pipes.
type Style struct {
	Color bool
	Width int // of a line in characters; 0: lines are as long as they are
	// Now is what times are told from, and MaxRows how many endpoints, or frontends of a
	// family, are shown; 0 is all.
	Now     time.Time
	MaxRows int
}

// Render returns the text.
func Render(e *status.Explanation, style Style) string {
	p := page{style: style}
	p.verdict(e)
	p.names(e.Names)
	p.service(e.Service)
	for i := range e.NAT {
		p.family(&e.NAT[i])
	}
	p.flows(e.Flows)
	p.repairs(e.NAT)
	p.steps(e)
	p.source(&e.Source)
	return p.out.String()
}

// page is the text as it is written.
type page struct {
	style Style
	out   strings.Builder
}

// Codes of colours (ECMA-48).
const (
	bold  = "\x1b[1m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	plain = "\x1b[0m"
)

func (p *page) in(color, text string) string {
	if !p.style.Color {
		return text
	}
	return color + text + plain
}

// line writes a line behind an indent. A longer one than the terminal's goes on below, two
// characters further in.
func (p *page) line(indent int, color, text string) {
	text = printable(text)
	margin := strings.Repeat(" ", indent)
	for first := true; text != ""; first = false {
		if !first {
			margin = strings.Repeat(" ", indent+2)
		}
		head := text
		if room := p.style.Width - len(margin); p.style.Width > 0 && room > 20 && utf8.RuneCountInString(text) > room {
			head = cut(text, room)
		}
		text = strings.TrimLeft(text[len(head):], " ")
		head = strings.TrimRight(head, " ")
		if color != "" {
			head = p.in(color, head)
		}
		p.out.WriteString(margin + head + "\n")
	}
}

// cut returns the beginning of a text that has room in a line, up to a space if there is one.
func cut(text string, room int) string {
	end := len(text)
	n := 0
	for i := range text {
		if n == room {
			end = i
			break
		}
		n++
	}
	if at := strings.LastIndexByte(text[:end], ' '); at > 0 {
		return text[:at]
	}
	return text[:end]
}

// printable quotes what may do something to a terminal: names may be anyone's.
func printable(text string) string {
	quoted := strconv.Quote(text)
	if strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`) == text {
		return text
	}
	return quoted
}

func (p *page) title(text string) {
	p.out.WriteString("\n")
	p.line(0, bold, text)
}

func (p *page) verdict(e *status.Explanation) {
	color := bold + green
	if !e.Works {
		color = bold + red
	}
	p.line(0, color, e.Verdict)
	for _, s := range e.Steps {
		if s.Condition == status.Wrong {
			p.line(2, "", "fails at: "+s.Name)
			if s.Mend != "" {
				p.line(2, "", "mend:     "+s.Mend)
			}
			break
		}
	}
	if !e.Works && e.Service != nil && len(e.Service.Hints) > 0 {
		p.line(2, "", "check:    "+e.Service.Hints[0])
	}
	if len(e.Near) > 0 {
		p.line(2, "", "nearest:  "+strings.Join(e.Near, ", "))
	}
}

// steps are all that was looked at, each with its mend, but for that which the verdict tells.
func (p *page) steps(e *status.Explanation) {
	p.title("Steps")
	signs := map[status.Condition]string{status.OK: "ok", status.Notice: "note", status.Unknown: "?", status.Wrong: "WRONG"}
	told := false
	for _, s := range e.Steps {
		color := ""
		if s.Condition == status.Wrong {
			color = red
		}
		p.line(2, color, fmt.Sprintf("%-5s  %-9s  %s", signs[s.Condition], s.Name, s.Text))
		first := s.Condition == status.Wrong && !told
		told = told || first
		if s.Mend != "" && !first {
			p.line(20, "", "mend: "+s.Mend)
		}
	}
}

func (p *page) names(all []status.Name) {
	if len(all) == 0 {
		return
	}
	p.title("Names")
	words := map[status.Outcome]string{status.NoData: "no records", status.NXDomain: "does not exist", status.Elsewhere: "not in the zones here"}
	for _, n := range all {
		outcome := words[n.Outcome]
		if n.Outcome == status.Found {
			outcome = fmt.Sprintf("%d records", len(n.Records)+n.Left)
			if len(n.Records) == 1 {
				outcome = "1 record"
			}
		}
		p.line(2, "", fmt.Sprintf("%s  %s (%s)", n.Name, outcome, n.Why))
		t := table{}
		for _, r := range n.Records {
			t.add(r.Type, r.Data, r.Why)
		}
		p.table(4, t)
		if n.Left > 0 {
			p.line(4, "", fmt.Sprintf("and %d more", n.Left))
		}
	}
}

func (p *page) service(s *status.Service) {
	if s == nil {
		return
	}
	p.title("Service " + s.Name)
	words := []string{s.Kind}
	for _, ip := range s.ClusterIPs {
		words = append(words, ip.String())
	}
	what := strings.Join(words, " ")
	if s.ExternalName != "" {
		what += " " + s.ExternalName
	}
	if len(s.Ports) > 0 {
		what += ", ports " + strings.Join(s.Ports, ", ")
	}
	p.line(2, "", what)
	for _, h := range s.Hints {
		p.line(2, "", "coredns check: "+h)
	}
	p.endpoints(s)
}

func (p *page) endpoints(s *status.Service) {
	if s.Kind == "ExternalName" {
		return
	}
	if len(s.Endpoints) == 0 {
		p.line(2, "", "no endpoints")
		return
	}
	t := table{}
	t.add("ENDPOINT", "PORT", "POD", "NODE", "ZONE", "STATE", "COUNTS", "SHARE", "LOCAL", "CONNECTIONS")
	shown := p.most(len(s.Endpoints))
	for _, e := range s.Endpoints[:shown] {
		counts := "yes"
		if !e.Counts {
			counts = "no: " + reasons[e.Reason]
		}
		t.add(e.Address, e.Port, e.Pod, e.Node, e.Zone, e.State, counts, percent(e.Share), percent(e.LocalShare), number(e.Connections))
	}
	p.table(2, t.withoutEmpty())
	if n := len(s.Endpoints) + s.Left - shown; n > 0 {
		p.line(2, "", fmt.Sprintf("and %d more: -o json has %d", n, len(s.Endpoints)))
	}
}

// most is how many of a list are shown.
func (p *page) most(n int) int {
	if p.style.MaxRows > 0 && n > p.style.MaxRows {
		return p.style.MaxRows
	}
	return n
}

// reasons are the words of an Endpoint's Reason for people.
var reasons = map[string]string{
	"other_family": "of the other IP family", "names_only": "for names alone", "beyond_bounds": "more than a Service may have",
	"no_such_port": "without that port", "other_node": "for another node", "other_zone": "for another zone",
	"not_ready": "not ready", "terminating": "terminating", "weight_0": "of weight 0", "": "no frontend leads there",
}

func percent(share *float64) string {
	if share == nil {
		return ""
	}
	return strconv.FormatFloat(100**share, 'f', 1, 64) + " %"
}

func number(n *uint64) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(*n, 10)
}

func (p *page) family(f *status.Family) {
	title := "Frontends, " + f.Family
	if f.Backend != "" {
		title += ", " + f.Backend
	}
	if f.Node != "" {
		title += ", on node " + f.Node
	}
	p.title(title)
	t := table{}
	t.add("FRONTEND", "KIND", "PORT", "IN FORCE", "CONNECTIONS")
	shown := p.most(len(f.Frontends))
	for i := range f.Frontends[:shown] {
		front := &f.Frontends[i]
		planned := !f.Looked || len(f.Wrong)+len(front.Wrong) > 0
		t.add(front.At, front.Kind, front.Port, force(front, planned), number(front.Connections))
	}
	p.table(2, t.withoutEmpty())
	for i := range f.Frontends[:shown] {
		if c := f.Frontends[i].Client; c != "" {
			p.line(2, "", fmt.Sprintf("a connection of the client to %s %s", f.Frontends[i].At, c))
		}
	}
	if n := len(f.Frontends) - shown; n > 0 {
		p.line(2, "", fmt.Sprintf("and %d more", n))
	}
	if f.Excess != "" {
		p.line(2, "", "left out: "+f.Excess)
	}
	p.kernel(f, shown)
}

// force says what is in force of a frontend, or only planned as far as is known.
func force(f *status.Frontend, planned bool) string {
	yes, local := "yes", ""
	if planned {
		yes = "planned"
	}
	if f.Local {
		local = " on this node"
	}
	switch f.Verdict {
	case "forward":
		if f.Endpoints == 1 {
			return yes + ", to 1 endpoint" + local
		}
		return fmt.Sprintf("%s, to %d endpoints%s", yes, f.Endpoints, local)
	case "reject":
		return "connections are refused: no endpoint counts"
	case "drop":
		return "connections are dropped: no endpoint is on this node"
	}
	return "no: " + f.Why
}

func (p *page) kernel(f *status.Family, shown int) {
	if !f.Looked {
		if f.WhyNot != "" {
			p.line(2, "", "kernel: nothing is known, since "+f.WhyNot)
		}
		return
	}
	for _, w := range append(f.Wrong, f.Others...) {
		p.line(2, red, "kernel: "+w)
	}
	for i := range f.Frontends[:shown] {
		front := &f.Frontends[i]
		if len(front.Meets)+len(front.Wrong) == 0 {
			continue
		}
		p.line(2, "", fmt.Sprintf("a packet to %s meets in the kernel", front.At))
		for _, m := range front.Meets {
			p.line(4, "", m)
		}
		for _, w := range front.Wrong {
			p.line(4, red, "WRONG: "+w)
		}
	}
}

func (p *page) flows(f *status.Flows) {
	if f == nil {
		return
	}
	p.title("Connections that the kernel tracks")
	if f.WhyNot != "" {
		p.line(2, "", "not listed: "+f.WhyNot)
		return
	}
	if f.Total == 0 {
		p.line(2, "", "none")
		return
	}
	t := table{}
	for _, flow := range f.Some {
		stale := ""
		if flow.Stale {
			stale = "which is no endpoint any more"
		}
		t.add(flow.Protocol, flow.Client.String(), "to "+flow.To.String(), "at "+flow.Endpoint.String(), stale)
	}
	p.table(2, t)
	if n := f.Total - f.Ended - len(f.Some); n > 0 {
		p.line(2, "", fmt.Sprintf("and %d more", n))
	}
	if f.Ended > 0 {
		p.line(2, "", fmt.Sprintf("ended, and still tracked for a while: %d", f.Ended))
	}
}

func (p *page) repairs(all []status.Family) {
	for i := range all {
		r := all[i].LastRepair
		if r == nil {
			continue
		}
		p.title("Last repair, " + all[i].Family)
		by := "somebody"
		if r.By != "" {
			by = r.By
		}
		p.line(2, "", fmt.Sprintf("%s, %s: %s had changed our rules: %s", r.At.UTC().Format(time.RFC3339), ago(p.style.Now, r.At), by, strings.Join(r.What, "; ")))
	}
}

func ago(now, then time.Time) string {
	return now.Sub(then).Round(time.Second).String() + " ago"
}

func (p *page) source(s *status.Source) {
	p.out.WriteString("\n")
	if s.Live {
		p.line(0, "", fmt.Sprintf("Process %d has answered, from %s.", s.Process, s.Place))
		return
	}
	p.line(0, "", fmt.Sprintf("No running process was asked: this is from %s.", s.Place))
}
