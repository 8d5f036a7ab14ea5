package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Severity says whether a Problem needs mending.
type Severity uint8

const (
	// Error means that something was not taken as it stands: the last good
	// state of it is in force, or nothing.
	Error Severity = iota
	// Notice is worth knowing, and all is well.
	Notice
)

// String returns "error" or "notice".
func (s Severity) String() string {
	if s == Notice {
		return "notice"
	}
	return "error"
}

// Problem is one thing wrong with the folder, with its place. It is an error.
type Problem struct {
	File     string // as opened: below Options.Dir, or the state file
	Line     int    // of the YAML fault, else of the document; 0 means the whole file
	Object   string // "Service testing/echo", or "" where it has no name
	Err      error  // what is wrong and how to mend it
	Severity Severity
	Option   string // of clusterip, if that is what is to be mended
}

// Error returns "file:line: object: what is wrong", without the parts that are
// not known. A part that is not printable is quoted: the manifests may be anyone's,
// and the text goes to logs and terminals.
func (p Problem) Error() string {
	if place := p.Place(); place != "" {
		return place + ": " + printable(p.Err.Error())
	}
	return printable(p.Err.Error())
}

// Place is what Error begins with: "file:line: object", without the parts that are not known.
func (p Problem) Place() string {
	var parts []string
	switch {
	case p.File != "" && p.Line > 0:
		parts = append(parts, fmt.Sprintf("%s:%d", printable(p.File), p.Line))
	case p.File != "":
		parts = append(parts, printable(p.File))
	}
	if p.Object != "" {
		parts = append(parts, printable(p.Object))
	}
	return strings.Join(parts, ": ")
}

// maxText bounds what is told of one thing, in bytes: names and values may have any
// length.
const maxText = 2048

// shortened cuts a long text, and says so.
func shortened(text string) string {
	if len(text) <= maxText {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(text[:maxText], ""), len(text))
}

func printable(text string) string {
	text = shortened(text)
	if utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return text
	}
	return strconv.Quote(text)
}

// Unwrap returns Err.
func (p Problem) Unwrap() error { return p.Err }

// split returns the errors that errors.Join put together, one by one.
func split(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var errs []error
		for _, e := range joined.Unwrap() {
			errs = append(errs, split(e)...)
		}
		return errs
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Object, b.Object), cmp.Compare(a.Err.Error(), b.Err.Error()))
	})
}

// maxProblems of one place are told; more help no one.
const maxProblems = 100

// Bound is for problems that somebody else has found in a folder: those of each file in
// order, and of those beyond the bound how many there are.
func Bound(problems []Problem) []Problem {
	files := make(map[string][]Problem)
	for _, p := range problems {
		files[p.File] = append(files[p.File], p)
	}
	var all []Problem
	for _, file := range slices.Sorted(maps.Keys(files)) {
		all = append(all, boundProblems(files[file], file)...)
	}
	return all
}

// boundProblems sorts the problems of one place and counts those beyond the bound.
func boundProblems(problems []Problem, place string) []Problem {
	sortProblems(problems)
	more := len(problems) - maxProblems
	if more <= 0 {
		return problems
	}
	return append(slices.Clone(problems[:maxProblems]),
		Problem{File: place, Err: fmt.Errorf("there are %d more problems here", more), Severity: problems[maxProblems].Severity})
}

func sameProblem(a, b Problem) bool { return a.Severity == b.Severity && a.Error() == b.Error() }
