package nftables

import (
	"fmt"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// batch is a transaction in the making.
type batch struct {
	nfproto uint8
	table   string
	// first are tables, sets, chains and rules. What can go only when no element leads to
	// it any more comes after the elements: first rules, and then what they are in.
	first, emptied, last messages
	removed, added       elements
	whole                messages // the transaction, for its room
}

// elements are those of several sets, in messages of bounded size.
type elements struct {
	sets  []*set // in the order in which they came
	of    map[*set][][]byte
	count int
}

func (e *elements) reset() {
	e.sets, e.count = e.sets[:0], 0
	for s, parts := range e.of {
		e.of[s] = append(parts[:0], parts[0][:0])
	}
}

// maxElements is how many bytes of elements there are in one message: the length of an
// attribute is 16 bits.
const maxElements = 60_000

func newBatch(family cluster.Family) *batch {
	nfproto := language{family}.nfproto()
	return &batch{nfproto: nfproto, table: tableName, first: messages{family: nfproto}, emptied: messages{family: nfproto}, last: messages{family: nfproto}}
}

// reset makes it an empty one, with the room that it has.
func (b *batch) reset() {
	for _, m := range []*messages{&b.first, &b.emptied, &b.last} {
		m.buf = m.buf[:0]
	}
	b.removed.reset()
	b.added.reset()
}

func (b *batch) empty() bool {
	return len(b.first.buf)+len(b.emptied.buf)+len(b.last.buf) == 0 && b.removed.count+b.added.count == 0
}

// maxChains is how many bytes of chains and rules there are in one transaction: the kernel
// takes none that is larger than twice sendBuffer, and the time it takes for one grows faster than it.
const maxChains = 256 << 10

// large reports whether it is time to make the transaction.
func (b *batch) large() bool { return len(b.first.buf)+len(b.emptied.buf)+len(b.last.buf) > maxChains }

// elements is how many come or go.
func (b *batch) elements() int { return b.removed.count + b.added.count }

// put implements writer.
func (b *batch) put(s *set, key, data []byte, comment string) {
	buf, at := b.added.begin(s)
	buf = appendElementKey(buf, s, key)
	switch {
	case s.hasVerdicts():
		buf = appendGoto(buf, string(data))
	case s.isMap():
		buf = appendValue(buf, unix.NFTA_SET_ELEM_DATA, data)
	}
	if comment != "" {
		const kind = 0 // NFTNL_UDATA_SET_ELEM_COMMENT
		buf = appendAttr(buf, unix.NFTA_SET_ELEM_USERDATA, attribute(kind, append([]byte(comment), 0)))
	}
	b.added.end(s, buf, at)
}

// remove implements writer.
func (b *batch) remove(s *set, key []byte) {
	buf, at := b.removed.begin(s)
	b.removed.end(s, appendElementKey(buf, s, key), at)
}

func appendElementKey(buf []byte, s *set, key []byte) []byte {
	if s.flags&unix.NFT_SET_INTERVAL == 0 {
		return appendValue(buf, unix.NFTA_SET_ELEM_KEY, key)
	}
	half := len(key) / 2
	return appendValue(appendValue(buf, unix.NFTA_SET_ELEM_KEY, key[:half]), nftaSetElemKeyEnd, key[half:])
}

const nftaSetElemKeyEnd = 10 // NFTA_SET_ELEM_KEY_END

// appendGoto is the data of an element that leads to a chain.
func appendGoto(buf []byte, chain string) []byte {
	at := len(buf)
	buf = beginNested(buf, unix.NFTA_SET_ELEM_DATA)
	inner := len(buf)
	buf = beginNested(buf, unix.NFTA_DATA_VERDICT)
	code := int32(unix.NFT_GOTO)
	buf = appendAttr(buf, unix.NFTA_VERDICT_CODE, bigEndian(uint32(code)))
	buf = appendAttr(buf, unix.NFTA_VERDICT_CHAIN, append([]byte(chain), 0))
	endNested(buf, inner)
	endNested(buf, at)
	return buf
}

// begin begins an element, and returns what end takes.
func (e *elements) begin(s *set) (buf []byte, at int) {
	if e.of == nil {
		e.of = make(map[*set][][]byte)
	}
	parts := e.of[s]
	if len(parts) == 0 || len(parts) == 1 && len(parts[0]) == 0 {
		e.sets = append(e.sets, s)
	}
	if n := len(parts); n == 0 || len(parts[n-1]) > maxElements {
		parts = append(parts, nil)
		e.of[s] = parts
	}
	buf = parts[len(parts)-1]
	return beginNested(buf, unix.NFTA_LIST_ELEM), len(buf)
}

func (e *elements) end(s *set, buf []byte, at int) {
	endNested(buf, at)
	parts := e.of[s]
	parts[len(parts)-1] = buf
	e.count++
}

// addTo adds the messages for the elements.
func (e *elements) addTo(m *messages, table string, kind int, flags uint16) {
	for _, s := range e.sets {
		for _, part := range e.of[s] {
			at := m.begin(kind, flags)
			m.text(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			m.text(unix.NFTA_SET_ELEM_LIST_SET, s.name)
			m.nested(unix.NFTA_SET_ELEM_LIST_ELEMENTS, func() { m.buf = append(m.buf, part...) })
			m.end(at)
		}
	}
}

// transaction is the whole of it, with the markers of its begin and end. What goes comes
// before what comes: a key can be replaced.
func (b *batch) transaction() []byte {
	m := messages{family: b.nfproto, buf: b.whole.buf[:0]}
	marker := func(kind uint16) { m.end(m.beginOf(kind, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)) }
	marker(unix.NFNL_MSG_BATCH_BEGIN)
	m.buf = append(m.buf, b.first.buf...)
	b.removed.addTo(&m, b.table, unix.NFT_MSG_DELSETELEM, 0)
	b.added.addTo(&m, b.table, unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE)
	m.buf = append(append(m.buf, b.emptied.buf...), b.last.buf...)
	marker(unix.NFNL_MSG_BATCH_END)
	b.whole = m
	return m.buf
}

// addTable creates the table, or takes over the one that is there.
func (b *batch) addTable(flags uint32) {
	at := b.first.begin(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	b.first.text(unix.NFTA_TABLE_NAME, b.table)
	b.first.number(unix.NFTA_TABLE_FLAGS, flags)
	b.first.end(at)
}

// deleteTable removes the table, when all else is done.
func (b *batch) deleteTable() {
	at := b.last.begin(unix.NFT_MSG_DELTABLE, 0)
	b.last.text(unix.NFTA_TABLE_NAME, b.table)
	b.last.end(at)
}

func (b *batch) addSet(s *set, number uint32) {
	m := &b.first
	at := m.begin(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	m.text(unix.NFTA_SET_TABLE, b.table)
	m.text(unix.NFTA_SET_NAME, s.name)
	m.number(unix.NFTA_SET_FLAGS, s.kernelFlags())
	m.number(unix.NFTA_SET_KEY_TYPE, typeIDs(s.key))
	m.number(unix.NFTA_SET_KEY_LEN, uint32(length(s.key)))
	switch {
	case s.hasVerdicts():
		m.number(unix.NFTA_SET_DATA_TYPE, unix.NFT_DATA_VERDICT)
		m.number(unix.NFTA_SET_DATA_LEN, 0)
	case s.isMap():
		m.number(unix.NFTA_SET_DATA_TYPE, typeIDs(s.data))
		m.number(unix.NFTA_SET_DATA_LEN, uint32(length(s.data)))
	}
	m.number(unix.NFTA_SET_ID, number)
	if s.size > 0 || s.flags&nftSetConcat != 0 {
		m.nested(unix.NFTA_SET_DESC, func() { s.describe(m) })
	}
	if s.counted {
		const setExpr = 17 // NFTA_SET_EXPR
		m.nested(setExpr, func() { m.text(unix.NFTA_EXPR_NAME, "counter") })
	}
	m.attr(unix.NFTA_SET_USERDATA, s.userdata())
	m.end(at)
}

func (s *set) kernelFlags() uint32 {
	if s.isMap() {
		return s.flags | unix.NFT_SET_MAP
	}
	return s.flags
}

// describe says how large a set may be, and the lengths of the parts that are ranges.
func (s *set) describe(m *messages) {
	if s.size > 0 {
		m.number(unix.NFTA_SET_DESC_SIZE, s.size)
	}
	if s.flags&nftSetConcat == 0 {
		return
	}
	const descConcat, fieldLen = 2, 1 // NFTA_SET_DESC_CONCAT, NFTA_SET_FIELD_LEN
	m.nested(descConcat, func() {
		for _, f := range s.key {
			m.nested(unix.NFTA_LIST_ELEM, func() { m.number(fieldLen, uint32(f.size)) })
		}
	})
}

// deleteSet removes a set, which no rule looks at any more.
func (b *batch) deleteSet(name string) {
	at := b.last.begin(unix.NFT_MSG_DELSET, 0)
	b.last.text(unix.NFTA_SET_TABLE, b.table)
	b.last.text(unix.NFTA_SET_NAME, name)
	b.last.end(at)
}

func (b *batch) addChain(c *chain) {
	m := &b.first
	at := m.begin(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	m.text(unix.NFTA_CHAIN_TABLE, b.table)
	m.text(unix.NFTA_CHAIN_NAME, c.name)
	if c.hook != nil {
		m.nested(unix.NFTA_CHAIN_HOOK, func() {
			m.number(unix.NFTA_HOOK_HOOKNUM, uint32(c.hook.at))
			m.number(unix.NFTA_HOOK_PRIORITY, uint32(c.hook.priority))
		})
		m.number(unix.NFTA_CHAIN_POLICY, nfAccept)
		m.text(unix.NFTA_CHAIN_TYPE, c.hook.kind)
	}
	m.end(at)
}

// addRules adds the rules of a chain to those that it has.
func (b *batch) addRules(c *chain) error {
	m := &b.first
	for _, r := range c.rules {
		at := m.begin(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
		m.text(unix.NFTA_RULE_TABLE, b.table)
		m.text(unix.NFTA_RULE_CHAIN, c.name)
		var err error
		m.nested(unix.NFTA_RULE_EXPRESSIONS, func() {
			for _, e := range r.exprs() {
				var encoded []byte
				if encoded, err = expr.Marshal(b.nfproto, e); err != nil {
					return
				}
				m.attr(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, encoded)
			}
		})
		if err != nil {
			return fmt.Errorf("encode rule %q of chain %s: %w", r, c.name, err)
		}
		m.end(at)
	}
	return nil
}

// flushChain removes the rules that a chain has.
func (b *batch) flushChain(name string) {
	at := b.first.begin(unix.NFT_MSG_DELRULE, 0)
	b.first.text(unix.NFTA_RULE_TABLE, b.table)
	b.first.text(unix.NFTA_RULE_CHAIN, name)
	b.first.end(at)
}

// emptyChain removes the rules of a chain that elements may have led to.
func (b *batch) emptyChain(name string) {
	at := b.emptied.begin(unix.NFT_MSG_DELRULE, 0)
	b.emptied.text(unix.NFTA_RULE_TABLE, b.table)
	b.emptied.text(unix.NFTA_RULE_CHAIN, name)
	b.emptied.end(at)
}

// deleteChain removes a chain, which nothing leads to any more.
func (b *batch) deleteChain(name string) {
	b.emptyChain(name)
	at := b.last.begin(unix.NFT_MSG_DELCHAIN, 0)
	b.last.text(unix.NFTA_CHAIN_TABLE, b.table)
	b.last.text(unix.NFTA_CHAIN_NAME, name)
	b.last.end(at)
}

const nfAccept = 1 // NF_ACCEPT, of a base chain whose rules end
