package wire

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
)

// MaxRecords is how many records a section has at most. A record takes 16 octets at
// least, so that no message holds more.
const MaxRecords = 4096

// atQuestion points to the name in the question.
const atQuestion = 0xc000 | headerLen

// maxPointed is the length of a reply of which each part can be pointed to (RFC 1035
// section 4.1.4).
const maxPointed = 1 << 14

// Reply is a reply that is being written: Begin, the records of a section and the next
// one, Finish. Records must come in the order of sections. It is reused.
//
// A reply that has more than the client takes is truncated as miekg/dns does it: a record
// that does not fit ends all sections.
type Reply struct {
	// Length is what the whole reply would take, without compression, truncation and OPT
	// record: what CoreDNS counts as the size of a response.
	Length int

	// Owner points to the name that has the records, which is OwnerLen long: the name that
	// was asked for, or the one that it is an alias of.
	Owner    uint16
	OwnerLen int

	question *Question
	alias    alias
	out      []byte
	base     int // where the reply begins in out
	counts   [4]uint16
	section  int
	left     int // octets for further records
	whole    bool
	cut      bool

	// Owners and Buffer are for who writes records: pointers to the owners of those to come,
	// and room for a name.
	Owners [MaxRecords]uint16
	Buffer [MaxName]byte

	order [MaxRecords]uint16 // of records that are dealt; see Deal
	dealt int
}

// alias is a CNAME record in front of the records that were asked for.
type alias struct {
	target string // "" is none
	ttl    uint32
}

// Sections of a reply.
const (
	answer     = 1
	authority  = 2
	additional = 3
)

// Begin starts the reply to a question, whose query is given, behind what a buffer holds.
func (r *Reply) Begin(buffer, query []byte, q *Question) {
	r.question, r.out, r.base = q, append(buffer, query[:q.end]...), len(buffer)
	r.counts, r.section, r.Length, r.cut = [4]uint16{0: 1}, answer, q.end, false
	r.Owner, r.OwnerLen, r.alias = atQuestion, len(q.Name), alias{}
}

// Follow makes the name that was asked for an alias of another, without escapes, which has
// the records that come.
func (r *Reply) Follow(target string, ttl uint32) {
	r.alias = alias{target, ttl}
	r.Owner, r.OwnerLen = r.Here()+2+recordLen, len(target)
}

// Expect says how long all records are without compression. It is false if they can not be
// written: pointers would not reach all of the reply. If they are plain, with no names
// but those that Service and Address write, they may be more than the client takes.
func (r *Reply) Expect(length int, plain bool) bool {
	r.Length += length
	if r.alias.target != "" {
		r.Length += len(r.question.Name) + 1 + recordLen + len(r.alias.target) + 1
		plain = false
	}
	room := r.question.Size - r.optLen()
	r.whole = r.Length <= room
	r.left = room - (len(r.out) - r.base)
	switch {
	case !r.whole:
		return plain && r.question.Size < maxPointed
	case r.Length >= maxPointed:
		return false
	case r.alias.target != "":
		writeName(r, atQuestion, typeCNAME, r.alias.ttl, r.alias.target)
	}
	return true
}

func (r *Reply) optLen() int {
	if r.question.EDNS {
		return optLen
	}
	return 0
}

// Suffix points to the end of the question's name that is so long, final dot included.
func (r *Reply) Suffix(length int) uint16 {
	return atQuestion + uint16(len(r.question.Name)-length)
}

// Authority begins the authority section.
func (r *Reply) Authority() { r.section = authority }

// Additional begins the additional section.
func (r *Reply) Additional() { r.section = additional }

// Here points to what comes next.
func (r *Reply) Here() uint16 { return 0xc000 | uint16(len(r.out)-r.base) }

// Address writes an A or AAAA record. It is false if there is no room.
func (r *Reply) Address(owner uint16, ttl uint32, ip netip.Addr) bool {
	if ip.Is4() {
		four := ip.As4()
		return r.Record(owner, typeA, ttl, four[:])
	}
	sixteen := ip.As16()
	return r.Record(owner, typeAAAA, ttl, sixteen[:])
}

const (
	typeA     = 1
	typeCNAME = 5
	typePTR   = 12
	typeAAAA  = 28
	typeSRV   = 33
)

// recordLen is the length of a record without its owner and data.
const recordLen = 2 + 2 + 4 + 2

// Record writes a record with such data. It is false if there is no room.
func (r *Reply) Record(owner, qtype uint16, ttl uint32, data []byte) bool {
	if !r.fits(2 + recordLen + len(data)) {
		return false
	}
	r.header(owner, qtype, ttl, len(data))
	r.out = append(r.out, data...)
	return true
}

// Service writes an SRV record (RFC 2782). It is false if there is no room. The target,
// which is returned, can be pointed to. It is a name, or the beginning of one, up to a dot,
// and the octets of the rest.
func (r *Reply) Service(ttl uint32, priority, weight, port uint16, name, rest []byte) (target uint16, ok bool) {
	if rest == nil {
		rest = root[:]
	}
	length := 6 + len(name) + len(rest)
	if !r.fits(2 + recordLen + length) {
		return 0, false
	}
	r.header(r.Owner, typeSRV, ttl, length)
	r.out = binary.BigEndian.AppendUint16(r.out, priority)
	r.out = binary.BigEndian.AppendUint16(r.out, weight)
	r.out = binary.BigEndian.AppendUint16(r.out, port)
	target = r.Here()
	r.out = AppendName(r.out, name)
	r.out = append(r.out[:len(r.out)-1], rest...)
	return target, true
}

var root = [1]byte{}

// Pointer writes a PTR record.
func (r *Reply) Pointer(ttl uint32, name []byte) { writeName(r, r.Owner, typePTR, ttl, name) }

// writeName writes a record that there is room for, whose data is a name.
func writeName[T string | []byte](r *Reply, owner, qtype uint16, ttl uint32, name T) {
	r.header(owner, qtype, ttl, len(name)+1)
	r.out = AppendName(r.out, name)
	r.counts[r.section]++
}

// fits counts a record of a length if there is room for it.
func (r *Reply) fits(length int) bool {
	if r.cut || !r.whole && length > r.left {
		r.cut = true
		return false
	}
	r.left -= length
	r.counts[r.section]++
	return true
}

func (r *Reply) header(owner, qtype uint16, ttl uint32, length int) {
	r.out = binary.BigEndian.AppendUint16(r.out, owner)
	r.out = binary.BigEndian.AppendUint16(r.out, qtype)
	r.out = binary.BigEndian.AppendUint16(r.out, classIN)
	r.out = binary.BigEndian.AppendUint32(r.out, ttl)
	r.out = binary.BigEndian.AppendUint16(r.out, uint16(length))
}

// AppendName appends a name without escapes that ends in a dot.
func AppendName[T string | []byte](out []byte, name T) []byte {
	at := len(out)
	out = append(append(out, 0), name...)
	for i := at + 1; i < len(out); i++ {
		if out[i] == '.' {
			out[at] = byte(i - at - 1)
			at = i
		}
	}
	out[at] = 0
	return out
}

// IsPlain reports whether AppendName can write a name.
func IsPlain(name string) bool { return len(name) > 1 && strings.IndexByte(name, '\\') < 0 }

// Deal begins to deal the numbers below n, which is at most MaxRecords: in a random order,
// each as likely as any other, or else from the first to the last.
func (r *Reply) Deal(n int, shuffle bool) {
	r.dealt = -1
	if !shuffle || n < 2 {
		return
	}
	r.dealt = n
	for i := range n {
		r.order[i] = uint16(i)
	}
}

// Next returns the number that is the i-th to be dealt.
func (r *Reply) Next(i int) int {
	if r.dealt < 0 {
		return i
	}
	other := i + int(rand.Uint32N(uint32(r.dealt-i)))
	r.order[i], r.order[other] = r.order[other], r.order[i]
	return int(r.order[i])
}

// Finish completes the reply and returns the buffer with it. The rcode is one of RFC 1035.
func (r *Reply) Finish(rcode byte) []byte {
	const (
		qr, aa, tc = 0x80, 0x04, 0x02
		rd, cd     = 0x01, 0x10
	)
	head := r.out[r.base:]
	head[2] = head[2]&rd | qr | aa
	if r.cut {
		head[2] |= tc
	}
	head[3] = head[3]&cd | rcode
	if r.question.EDNS {
		r.counts[additional]++
	}
	for i, n := range r.counts {
		binary.BigEndian.PutUint16(head[4+2*i:], n)
	}
	if r.question.EDNS {
		r.opt()
	}
	return r.out
}

// opt writes the OPT record of the reply, as CoreDNS gives that of the query back.
func (r *Reply) opt() {
	const do = 0x8000
	flags := uint32(0)
	if r.question.DO {
		flags = do
	}
	r.out = append(r.out, 0)
	r.out = binary.BigEndian.AppendUint16(r.out, typeOPT)
	r.out = binary.BigEndian.AppendUint16(r.out, r.question.udp)
	r.out = binary.BigEndian.AppendUint32(r.out, flags)
	r.out = binary.BigEndian.AppendUint16(r.out, 0)
}
