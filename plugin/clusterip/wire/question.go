// Package wire reads questions and writes replies as the octets of a UDP message, without
// allocating and without a type of a DNS library in between. It takes the questions that
// clients of a cluster ask all day; whatever else comes is for a server that knows all of
// DNS. It is pure, and knows no Services.
//
// Start with Question.Parse, then Reply.
package wire

import (
	"encoding/binary"
	"slices"
	"unsafe"
)

// MaxName is the length of the longest name with its final dot: 255 octets with the root
// label.
const MaxName = 254

const (
	headerLen = 12 // RFC 1035 section 4.1.1
	maxLabel  = 63
	minSize   = 512 // what any client takes, RFC 1035 section 4.2.1
	optLen    = 11  // of an OPT record without options, RFC 6891 section 6.1.2
)

// Types and the class that this package reads and writes itself.
const (
	typeOPT = 41
	classIN = 1
)

// Question is the question of a query, and what the query says about the reply. It is
// reused: Parse overwrites all of it.
type Question struct {
	// Name is in lower case and ends in a dot. It is in memory of the Question: the next
	// Parse changes it.
	Name string
	Type uint16
	// Size is how many octets the reply may have, 512 at least.
	Size int
	// EDNS says that the query has an OPT record, and DO that DNSSEC is asked for in it.
	EDNS, DO bool

	end  int    // of the question in the query
	udp  uint16 // size that the OPT record gives
	name [MaxName]byte
}

// lowered has for each octet that a label of Name may have the same in lower case, else 0.
// Other octets, and those that have a meaning in the text of names, are left to others:
// no name of a Service has them.
var lowered = func() (table [256]byte) {
	for c := byte('!'); c <= '~'; c++ {
		switch c {
		case '.', '\'', '@', ';', '(', ')', '"', '\\':
		default:
			table[c] = c
		}
	}
	for c := byte('A'); c <= 'Z'; c++ {
		table[c] = c + 'a' - 'A'
	}
	return table
}()

// Parse reads a query. It is false for one that is not plain: exactly one question, of
// class IN, opcode QUERY, with nothing but an OPT record of version 0 behind it, whose
// options ask for nothing that a server must know.
func (q *Question) Parse(query []byte) bool {
	if len(query) < headerLen+1+4 {
		return false
	}
	const rd, ad, cd = 0x01, 0x20, 0x10
	if query[2]&^rd != 0 || query[3]&^(ad|cd) != 0 {
		return false
	}
	counts := binary.BigEndian.Uint64(query[4:])
	if counts>>1 != 1<<47 { // one question, no answer, no authority, one additional at most
		return false
	}
	end, ok := q.parseName(query)
	if !ok || end+4 > len(query) {
		return false
	}
	q.Type = binary.BigEndian.Uint16(query[end:])
	if binary.BigEndian.Uint16(query[end+2:]) != classIN {
		return false
	}
	q.end = end + 4
	q.EDNS, q.DO, q.Size = false, false, minSize
	if counts&1 == 0 {
		return q.end == len(query)
	}
	return q.parseOPT(query[q.end:])
}

// parseName returns where the name ends.
func (q *Question) parseName(query []byte) (end int, ok bool) {
	at, n := headerLen, 0
	for {
		length := int(query[at])
		if length == 0 {
			break
		}
		next := at + 1 + length
		if length > maxLabel || next >= len(query) || n+length+1 > MaxName {
			return 0, false
		}
		for _, c := range query[at+1 : next] {
			l := lowered[c]
			if l == 0 {
				return 0, false
			}
			q.name[n] = l
			n++
		}
		q.name[n] = '.'
		n++
		at = next
	}
	if n == 0 {
		return 0, false // the root
	}
	q.Name = unsafe.String(&q.name[0], n)
	return at + 1, true
}

// Ignored are the options of EDNS that a query may have. A server may leave them
// unanswered, and nobody checks their content: NSID (RFC 5001), COOKIE (RFC 7873) and
// padding (RFC 7830).
var Ignored = [...]uint16{3, 10, 12}

// parseOPT reads an OPT record that ends the query.
func (q *Question) parseOPT(opt []byte) bool {
	const do = 0x8000
	if len(opt) < optLen || opt[0] != 0 || binary.BigEndian.Uint16(opt[1:]) != typeOPT {
		return false
	}
	flags := binary.BigEndian.Uint32(opt[5:]) // extended code, version, flags
	options := opt[optLen:]
	if flags&^do != 0 || int(binary.BigEndian.Uint16(opt[9:])) != len(options) {
		return false
	}
	for len(options) > 0 {
		if len(options) < 4 || !slices.Contains(Ignored[:], binary.BigEndian.Uint16(options)) {
			return false
		}
		length := 4 + int(binary.BigEndian.Uint16(options[2:]))
		if length > len(options) {
			return false
		}
		options = options[length:]
	}
	q.EDNS, q.DO = true, flags&do != 0
	q.udp = binary.BigEndian.Uint16(opt[3:])
	q.Size = max(minSize, int(q.udp))
	return true
}

// Clamp bounds the size that the client says it takes.
func (q *Question) Clamp(size uint16) {
	if q.EDNS && q.udp > size {
		q.udp = size
		q.Size = max(minSize, int(size))
	}
}
