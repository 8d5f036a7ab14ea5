// Package directive reads the block of options that a directive has in a Corefile.
//
// Errors of parsers say what is wrong with the arguments, such as "takes no arguments":
// the name of the option is put before them, and its place in the Corefile.
package directive

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/coredns/caddy"
)

// Parser reads the arguments of an option into what a directive is parsed to.
type Parser[T any] func(to *T, args []string) error

// Table has the options of a directive.
type Table[T any] struct {
	// Noun is what errors call an option.
	Noun    string
	Parsers map[string]Parser[T]
	// Repeats has the options that may be given more than once.
	Repeats []string
}

// Parse reads the block that the controller is before, if there is one. What is wrong with
// an option is a fault of the stanza, and the others are read all the same.
func (t *Table[T]) Parse(c *caddy.Controller, s *Stanza, to *T) {
	for c.NextBlock() {
		name := c.Val()
		parse, known := t.Parsers[name]
		again := s.Has(name) && !slices.Contains(t.Repeats, name)
		s.options[name] = placeOf(c)
		args := c.RemainingArgs()
		switch {
		case !known:
			s.Faultf(name, "unknown %s %q: the options are %s", t.Noun, name, strings.Join(slices.Sorted(maps.Keys(t.Parsers)), ", "))
			skipBlock(c)
		case again:
			s.Faultf(name, "%s %s is given twice: keep one", t.Noun, name)
		case skipBlock(c):
			s.Faultf(name, "%s %s takes no block: remove the {", t.Noun, name)
		default:
			if err := parse(to, args); err != nil {
				s.Faultf(name, "%s %v", name, err)
			}
		}
	}
}

// skipBlock passes over the block that the controller is before, and reports whether there
// was one.
func skipBlock(c *caddy.Controller) bool {
	if !c.NextArg() { // which only a brace can be, after the arguments
		return false
	}
	for depth := 1; depth > 0 && c.Next(); {
		switch c.Val() {
		case "{":
			depth++
		case "}":
			depth--
		}
	}
	return true
}

// Flag is the Parser of an option without arguments, which sets a field.
func Flag[T any](field func(*T) *bool) Parser[T] {
	return func(to *T, args []string) error {
		if len(args) > 0 {
			return errors.New("takes no arguments")
		}
		*field(to) = true
		return nil
	}
}

// Choice is the Parser of an option with one of some words, each of which stands for a
// value.
func Choice[T, V any](values map[string]V, field func(*T) *V) Parser[T] {
	return func(to *T, args []string) error {
		text := strings.Join(args, " ")
		value, known := values[text]
		if !known {
			return fmt.Errorf("%q: give one of %s", text, strings.Join(slices.Sorted(maps.Keys(values)), ", "))
		}
		*field(to) = value
		return nil
	}
}

// Duration is the Parser of an option with one duration of some length at least.
func Duration[T any](least time.Duration, field func(*T) *time.Duration) Parser[T] {
	return func(to *T, args []string) error {
		text := strings.Join(args, " ")
		d, err := time.ParseDuration(text)
		if len(args) != 1 || err != nil || d < least {
			return fmt.Errorf("%q: give one duration such as 30s, of at least %s", text, least)
		}
		*field(to) = d
		return nil
	}
}

// Count is the Parser of an option with one number, which has a meaning, such as "of
// requests, or 0 for the default".
func Count[T any](meaning string, field func(*T) *int) Parser[T] {
	return func(to *T, args []string) error {
		text := strings.Join(args, " ")
		n, err := strconv.Atoi(text)
		if len(args) != 1 || err != nil || n < 0 || n > math.MaxInt32 {
			return fmt.Errorf("%q: give one number %s", text, meaning)
		}
		*field(to) = n
		return nil
	}
}
