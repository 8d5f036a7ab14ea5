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

// Places has the options that are there, and where in the Corefile, as file:line; of
// several of one name the last.
type Places map[string]string

// Has reports whether an option is there.
func (p Places) Has(option string) bool { return p[option] != "" }

// Parse reads the block that the controller is before, if there is one.
func (t *Table[T]) Parse(c *caddy.Controller, to *T) (Places, error) {
	seen := make(Places)
	for c.NextBlock() {
		name := c.Val()
		parse, known := t.Parsers[name]
		switch {
		case !known:
			return nil, c.Errf("unknown %s %q: the options are %s", t.Noun, name, strings.Join(slices.Sorted(maps.Keys(t.Parsers)), ", "))
		case seen.Has(name) && !slices.Contains(t.Repeats, name):
			return nil, c.Errf("%s %s is given twice: keep one", t.Noun, name)
		}
		seen[name] = fmt.Sprintf("%s:%d", c.File(), c.Line())
		args := c.RemainingArgs()
		if c.NextArg() { // which only a brace can be
			return nil, c.Errf("%s %s takes no block: remove the {", t.Noun, name)
		}
		if err := parse(to, args); err != nil {
			return nil, c.Errf("%s %v", name, err)
		}
	}
	return seen, nil
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
