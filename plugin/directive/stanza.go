package directive

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
)

// Stanza is what is known of one directive in a Corefile besides the values of its options:
// where they are, and what is wrong.
type Stanza struct {
	plugin  string
	own     place
	options map[string]place // of several of one name the last
	faults  []fault
}

type place struct {
	file string
	line int
}

func placeOf(c *caddy.Controller) place { return place{c.File(), c.Line()} }

// String returns file:line.
func (p place) String() string { return fmt.Sprintf("%s:%d", p.file, p.line) }

type fault struct {
	at place
	error
}

// NewStanza returns that of the directive whose name the controller has just read.
func NewStanza(c *caddy.Controller) *Stanza {
	return &Stanza{plugin: c.Val(), own: placeOf(c), options: make(map[string]place)}
}

// Has reports whether an option is given.
func (s *Stanza) Has(option string) bool {
	_, has := s.options[option]
	return has
}

// Place returns where the first of some options is that is given, or else the directive, as
// file:line.
func (s *Stanza) Place(options ...string) string { return s.place(options...).String() }

func (s *Stanza) place(options ...string) place {
	for _, o := range options {
		if at, has := s.options[o]; has {
			return at
		}
	}
	return s.own
}

// Faultf notes what is wrong with an option, or with the whole directive for "".
func (s *Stanza) Faultf(option, format string, args ...any) {
	s.faults = append(s.faults, fault{s.place(option), s.Errorf(option, format, args...)})
}

// Errorf returns an error about an option, or about the directive if that option is not
// given. It reads as those of CoreDNS's parser do.
func (s *Stanza) Errorf(option, format string, args ...any) error {
	return plugin.Error(s.plugin, fmt.Errorf("%s - Error during parsing: %w", s.place(option), fmt.Errorf(format, args...)))
}

// Err returns all faults, joined in the order of their lines, or nil.
func (s *Stanza) Err() error {
	slices.SortStableFunc(s.faults, func(a, b fault) int { return cmp.Compare(a.at.line, b.at.line) })
	var errs []error
	for _, f := range s.faults {
		errs = append(errs, f.error)
	}
	return errors.Join(errs...)
}
