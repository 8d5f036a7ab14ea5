package demo

import (
	"fmt"
	"io"
	"strings"
)

// screen prints the play. It ignores write errors: the play is checked, whether
// or not someone watches.
type screen struct {
	out   io.Writer
	color bool
}

// Escape sequences (ECMA-48, select graphic rendition).
const (
	bold  = "\x1b[1m"
	faint = "\x1b[2m"
	red   = "\x1b[31m"
	green = "\x1b[32m"
	cyan  = "\x1b[36m"
	reset = "\x1b[0m"
)

func (s screen) paint(color, text string) string {
	if !s.color {
		return text
	}
	return color + text + reset
}

func (s screen) heading(number int, title string) {
	fmt.Fprintf(s.out, "\n%s\n", s.paint(bold, fmt.Sprintf("%d. %s", number, title)))
}

// note prints what the demo itself has to say.
func (s screen) note(text string) {
	fmt.Fprintf(s.out, "\n%s\n", s.paint(faint, text))
}

func (s screen) command(at place, line string) {
	fmt.Fprintf(s.out, "\n%s %s\n", s.paint(cyan, string(at)+"$"), line)
}

func (s screen) output(text string) {
	if text = strings.TrimRight(text, "\n"); text != "" {
		fmt.Fprintln(s.out, text)
	}
}

func (s screen) passed(text string) { fmt.Fprintf(s.out, "%s %s\n", s.paint(green, "✓"), text) }

func (s screen) failed(err error) { fmt.Fprintf(s.out, "%s %s\n", s.paint(red, "✗"), err) }
