package main

import (
	"errors"
	"fmt"
	"os"
)

// report prints what is found, each thing once: server blocks may share what has it. A
// fault goes to stdout, and what is worth knowing to stderr.
type report struct {
	faults int
	told   map[string]bool
}

func newReport() *report { return &report{told: make(map[string]bool)} }

func (r *report) fault(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); r.isNew(text) {
		r.faults++
		fmt.Println(text)
	}
}

func (r *report) notice(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); r.isNew(text) {
		fmt.Fprintln(os.Stderr, text)
	}
}

func (r *report) isNew(text string) bool {
	known := r.told[text]
	r.told[text] = true
	return !known
}

// errors tells a fault for each of the errors that are joined in one.
func (r *report) errors(err error) {
	var joined interface{ Unwrap() []error }
	switch {
	case err == nil:
	case errors.As(err, &joined) && err.Error() == errors.Join(joined.Unwrap()...).Error(): // nothing is around them
		for _, e := range joined.Unwrap() {
			r.errors(e)
		}
	default:
		r.fault("%v", err)
	}
}
