package manifest

import (
	"crypto/sha256"
	"errors"
	"fmt"
)

// content is what a file says, and what stays in force of what it said before.
type content struct {
	// objects are those that are in the file: as they stand there, or, if that is at
	// fault, as they last were.
	objects  []*object
	problems []Problem
	// invalid are objects that are in the file but must not be taken as they
	// stand.
	invalid map[objectKey]bool
	// reading counts how often the file was found to be different.
	reading int
	unread  map[[sha256.Size]byte]unread // by the hash of the text
	// missing are objects that the file had and that may be in what is unread.
	missing []missing
	// empty means that the file has not one byte, as a write that begins with
	// truncating it leaves it.
	empty bool
	// ignored maps the kinds that are not read to the line of the first object.
	ignored map[string]int
	// told are the notices of the file as a whole.
	told map[string]bool
}

// unread is a text that could not be understood, a whole document or an item of a
// List, so that it is not known which object it is.
type unread struct {
	line int
	// template means that it is none, as far as one can see: what the file had may be
	// in it, but nothing else.
	template bool
	// since is the first of the readings in a row that found the text.
	since int
}

// missing is an object that its file no longer has, as far as it can be read.
type missing struct {
	*object
	// seen is the last reading that found it. It is in no text that was unread then.
	seen int
	// line is where the text is that it may be in; 0 in an empty file.
	line int
}

// missingProblems say which objects stay in force that the file no longer has, as far
// as it can be read.
func (c *content) missingProblems() []Problem {
	var told []Problem
	if c.empty && len(c.missing) > 0 {
		told = append(told, Problem{File: c.missing[0].file,
			Err: errors.New("the file is empty now; what it held stays in force: to delete that, remove the file")})
	}
	for _, m := range c.missing {
		where := "it may be in this document, which is not understood, and stays in force as it was until the document is mended or removed"
		if m.line == 0 {
			where = "the file is empty, and it stays in force as it was until the file has a text again or is removed"
		}
		told = append(told, Problem{File: m.file, Line: m.line, Object: m.String(), Err: errors.New("this object was in the file and is not found there now; " + where)})
	}
	return told
}

// mayHold reports whether an object that was not found may be in the file.
func (c *content) mayHold(key objectKey) bool {
	return c.empty || len(c.unread) > 0 || c.invalid[key]
}

// mayHoldAny reports whether there is a text that may hold objects that nobody knows.
func (c *content) mayHoldAny() bool {
	for _, u := range c.unread {
		if !u.template {
			return true
		}
	}
	return false
}

// incomplete reports whether the file may have Services that nobody knows.
func (c *content) incomplete() bool {
	if c.mayHoldAny() {
		return true
	}
	for key := range c.invalid {
		if key.kind == "Service" {
			return true
		}
	}
	return false
}

// keepLastGood adds what the file had before and does not have now. An object that is
// there and at fault stays as it was. A text that cannot be read may hold any object, so
// one that the file no longer has stays too, unless an earlier reading found it beside
// that text. What is sound is taken as it stands, whatever is beside it.
func (c *content) keepLastGood(before *content) {
	if before == nil {
		return
	}
	c.reading = before.reading + 1
	newest := c.dateUnread(before)
	known := map[objectKey]bool{}
	for _, o := range c.objects {
		known[o.objectKey] = true
	}
	atFault := map[string]bool{}
	keep := func(o *object, seen int) {
		switch {
		case known[o.objectKey]:
		case c.invalid[o.objectKey]:
			c.objects = append(c.objects, o)
			atFault[o.String()] = true
		case c.empty || newest.since > seen:
			c.missing = append(c.missing, missing{o, seen, newest.line})
		}
		known[o.objectKey] = true // another of its name does not count
	}
	for _, o := range before.objects {
		keep(o, before.reading)
	}
	for _, m := range before.missing {
		keep(m.object, m.seen)
	}
	for i, p := range c.problems {
		if p.Severity == Error && atFault[p.Object] {
			c.problems[i].Err = fmt.Errorf("%w; it stays in force as it was", p.Err)
		}
	}
}

// dateUnread finds out since when each text is there that cannot be read, and returns the
// first of the newest. An empty file keeps what it had unread, which is to come back.
func (c *content) dateUnread(before *content) (newest unread) {
	if c.empty {
		c.unread = before.unread
		return unread{}
	}
	for text, u := range c.unread {
		u.since = c.reading
		if old, was := before.unread[text]; was {
			u.since = old.since
		}
		c.unread[text] = u
		if u.since > newest.since || u.since == newest.since && u.line < newest.line {
			newest = u
		}
	}
	return newest
}

// found takes out the missing objects that are elsewhere.
func (c *content) found(elsewhere map[objectKey]*object) {
	rest := c.missing[:0]
	for _, m := range c.missing {
		if elsewhere[m.objectKey] == nil {
			rest = append(rest, m)
		}
	}
	clear(c.missing[len(rest):])
	c.missing = rest
}
