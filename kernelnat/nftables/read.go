package nftables

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// held is what the kernel holds in our table.
type held struct {
	there    bool // the table is
	flags    uint32
	sets     map[string]setShape
	chains   map[string]*heldChain
	elements map[string]map[string]string // of sets, by their keys: data with the comment
}

func newHeld() *held {
	return &held{sets: make(map[string]setShape), chains: make(map[string]*heldChain), elements: make(map[string]map[string]string)}
}

// setShape is what must be right of a set that is there.
type setShape struct{ flags, keyType, keyLength, dataType, dataLength, size uint32 }

type heldChain struct {
	based bool // it has a hook
	hook  hook
	drops bool // packets for which its rules decide nothing
	rules [][]expr.Any
	// unknown says that there is a rule with an expression that is not among ours.
	unknown bool
}

func (s *set) shape() setShape {
	out := setShape{flags: s.kernelFlags(), keyType: typeIDs(s.key), keyLength: uint32(length(s.key)), size: s.size}
	switch {
	case s.hasVerdicts():
		out.dataType = unix.NFT_DATA_VERDICT
	case s.isMap():
		out.dataType, out.dataLength = typeIDs(s.data), uint32(length(s.data))
	}
	return out
}

// read returns what the kernel holds in the table of a schema. Sets of another shape are
// not read.
func (s *socket) read(l language, schema *schema) (*held, error) {
	h := newHeld()
	if err := s.readTable(l, h); err != nil || !h.there {
		return h, err
	}
	for _, step := range []func() error{
		func() error { return s.readChains(l, h) },
		func() error { return s.readRules(l, h) },
		func() error { return s.readSets(l, h) },
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for _, set := range schema.sets() {
		if h.sets[set.name] != set.shape() || set == schema.clients {
			continue
		}
		elements, err := s.readElements(l, set)
		if err != nil {
			return nil, fmt.Errorf("list set %s: %w", set.name, err)
		}
		for key := range elements {
			if len(key) != set.keyLength() { // nft's *, say, which stands for all
				h.sets[set.name] = setShape{}
			}
		}
		h.elements[set.name] = elements
	}
	return h, nil
}

// keyLength is that of an element's key, as a writer has it.
func (s *set) keyLength() int {
	if s.flags&unix.NFT_SET_INTERVAL != 0 {
		return 2 * length(s.key)
	}
	return length(s.key)
}

// attributes calls f for each, with its value, which is valid until more is received.
func attributes(b []byte, f func(kind uint16, value []byte)) error {
	for len(b) > 0 {
		if len(b) < unix.SizeofNlAttr {
			return errMalformed
		}
		n, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if n < unix.SizeofNlAttr || n > len(b) {
			return errMalformed
		}
		f(kind&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofNlAttr:n])
		b = b[min(len(b), (n+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
	}
	return nil
}

var errMalformed = errors.New("nf_tables has answered with something that is no attribute")

func textOf(value []byte) string { return string(bytes.TrimSuffix(value, []byte{0})) }

// numberOf reads a number in network byte order.
func numberOf(value []byte) uint32 {
	if len(value) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(value)
}

func (l language) request(kind int, fill func(m *messages)) messages {
	m := messages{family: l.nfproto()}
	at := m.begin(kind, 0)
	fill(&m)
	m.end(at)
	return m
}

func (s *socket) readTable(l language, h *held) error {
	err := s.dump(l.request(unix.NFT_MSG_GETTABLE, func(*messages) {}), func(body []byte) error {
		var name string
		var flags uint32
		err := attributes(body, func(kind uint16, value []byte) {
			switch kind {
			case unix.NFTA_TABLE_NAME:
				name = textOf(value)
			case unix.NFTA_TABLE_FLAGS:
				flags = numberOf(value)
			}
		})
		if name == tableName {
			h.there, h.flags = true, flags
		}
		return err
	})
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("list tables: %w: give the process CAP_NET_ADMIN, or run it as root", err)
	}
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	return nil
}

// inTable asks for what is in the table.
func (l language) inTable(kind int, attr uint16) messages {
	return l.request(kind, func(m *messages) { m.text(attr, tableName) })
}

func (s *socket) readChains(l language, h *held) error {
	return s.dump(l.inTable(unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE), func(body []byte) error {
		var table, name string
		c := new(heldChain)
		err := attributes(body, func(kind uint16, value []byte) {
			switch kind {
			case unix.NFTA_CHAIN_TABLE:
				table = textOf(value)
			case unix.NFTA_CHAIN_NAME:
				name = textOf(value)
			case unix.NFTA_CHAIN_TYPE:
				c.hook.kind = textOf(value)
			case unix.NFTA_CHAIN_POLICY:
				c.drops = numberOf(value) != nfAccept
			case unix.NFTA_CHAIN_HOOK:
				c.based = true
				_ = attributes(value, func(kind uint16, value []byte) {
					switch kind {
					case unix.NFTA_HOOK_HOOKNUM:
						c.hook.at = hookNumber(numberOf(value))
					case unix.NFTA_HOOK_PRIORITY:
						c.hook.priority = int32(numberOf(value))
					}
				})
			}
		})
		if table == tableName {
			h.chains[name] = c
		}
		return err
	})
}

func (s *socket) readRules(l language, h *held) error {
	return s.dump(l.inTable(unix.NFT_MSG_GETRULE, unix.NFTA_RULE_TABLE), func(body []byte) error {
		var table, name string
		var exprs []expr.Any
		unknown := false
		err := attributes(body, func(kind uint16, value []byte) {
			switch kind {
			case unix.NFTA_RULE_TABLE:
				table = textOf(value)
			case unix.NFTA_RULE_CHAIN:
				name = textOf(value)
			case unix.NFTA_RULE_EXPRESSIONS:
				_ = attributes(value, func(_ uint16, value []byte) {
					e, ok := l.expression(value)
					exprs, unknown = append(exprs, e), unknown || !ok
				})
			}
		})
		if c := h.chains[name]; table == tableName && c != nil {
			c.rules, c.unknown = append(c.rules, exprs), c.unknown || unknown
		}
		return err
	})
}

// expression reads one of a rule, and reports whether it is of a kind that we write.
func (l language) expression(b []byte) (expr.Any, bool) {
	var name string
	var data []byte
	if attributes(b, func(kind uint16, value []byte) {
		switch kind {
		case unix.NFTA_EXPR_NAME:
			name = textOf(value)
		case unix.NFTA_EXPR_DATA:
			data = value
		}
	}) != nil {
		return nil, false
	}
	known := map[string]func() expr.Any{
		"payload": func() expr.Any { return new(expr.Payload) }, "meta": func() expr.Any { return new(expr.Meta) },
		"lookup": func() expr.Any { return new(expr.Lookup) }, "cmp": func() expr.Any { return new(expr.Cmp) },
		"bitwise":   func() expr.Any { return new(expr.Bitwise) },
		"immediate": func() expr.Any { return immediateOf(data) }, "nat": func() expr.Any { return new(expr.NAT) },
		"masq": func() expr.Any { return new(expr.Masq) }, "numgen": func() expr.Any { return new(expr.Numgen) },
		"dynset": func() expr.Any { return new(expr.Dynset) }, "fib": func() expr.Any { return new(expr.Fib) },
		"hash": func() expr.Any { return new(expr.Hash) },
		"ct":   func() expr.Any { return new(expr.Ct) }, "reject": func() expr.Any { return new(expr.Reject) },
	}[name]
	if known == nil {
		return nil, false
	}
	e := known()
	return e, expr.Unmarshal(l.nfproto(), data, e) == nil
}

// immediateOf is for a value, or for a verdict.
func immediateOf(data []byte) expr.Any {
	verdict := false
	_ = attributes(data, func(kind uint16, value []byte) {
		verdict = verdict || kind == unix.NFTA_IMMEDIATE_DREG && numberOf(value) == unix.NFT_REG_VERDICT
	})
	if verdict {
		return new(expr.Verdict)
	}
	return new(expr.Immediate)
}

func (s *socket) readSets(l language, h *held) error {
	return s.dump(l.inTable(unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE), func(body []byte) error {
		var table, name string
		var shape setShape
		err := attributes(body, func(kind uint16, value []byte) {
			switch kind {
			case unix.NFTA_SET_TABLE:
				table = textOf(value)
			case unix.NFTA_SET_NAME:
				name = textOf(value)
			case unix.NFTA_SET_FLAGS:
				shape.flags = numberOf(value)
			case unix.NFTA_SET_KEY_TYPE:
				shape.keyType = numberOf(value)
			case unix.NFTA_SET_KEY_LEN:
				shape.keyLength = numberOf(value)
			case unix.NFTA_SET_DATA_TYPE:
				shape.dataType = numberOf(value)
			case unix.NFTA_SET_DATA_LEN:
				shape.dataLength = numberOf(value)
			case unix.NFTA_SET_DESC:
				_ = attributes(value, func(kind uint16, value []byte) {
					if kind == unix.NFTA_SET_DESC_SIZE {
						shape.size = numberOf(value)
					}
				})
			}
		})
		if shape.dataType == unix.NFT_DATA_VERDICT {
			shape.dataLength = 0 // the kernel's own, of a verdict
		}
		if table == tableName {
			h.sets[name] = shape
		}
		return err
	})
}

// maxLists is how often a set is listed at most. The second list is whole as a rule; on a busy
// machine it was the sixth.
const maxLists = 100

// readElements returns the elements of a set by their keys: data with the comment.
//
// The kernel lists a set in parts, each from as many elements on as it has listed before. Some
// time after a large write it moves those of a hash set to a larger table. That changes their
// order, so a list that is made meanwhile has some elements twice and misses others. But it never
// has fewer entries than the set has elements, since each part goes through all of them. So a
// list with none twice is whole.
func (s *socket) readElements(l language, set *set) (map[string]string, error) {
	for range maxLists {
		out, listed, err := s.list(l, set)
		if err != nil || listed == len(out) {
			return out, err
		}
	}
	return nil, fmt.Errorf("%d lists had gaps, since the kernel does not stop moving its elements: the next sync lists it again", maxLists)
}

// list lists the elements of a set once, and returns how many entries that were.
func (s *socket) list(l language, set *set) (out map[string]string, listed int, err error) {
	out = make(map[string]string)
	var buf [256]byte
	request := l.request(unix.NFT_MSG_GETSETELEM, func(m *messages) {
		m.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		m.text(unix.NFTA_SET_ELEM_LIST_SET, set.name)
	})
	err = s.dump(request, func(body []byte) error {
		return attributes(body, func(kind uint16, value []byte) {
			if kind == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				eachElement(value, func(e element) {
					// A key and its value are one allocation: an element is 16 bytes and 8.
					whole := string(append(append(append(buf[:0], e.key...), e.data...), e.comment...))
					out[whole[:len(e.key)]] = whole[len(e.key):]
					listed++
				})
			}
		})
	})
	return out, listed, err
}

// element is one of a set in the kernel.
type element struct {
	key, data []byte // as a writer has them
	comment   []byte
	count     uint64
}

// eachElement calls f with the elements of a list.
func eachElement(list []byte, f func(element)) {
	_ = attributes(list, func(_ uint16, nested []byte) {
		var e element
		var last []byte
		_ = attributes(nested, func(kind uint16, value []byte) {
			switch kind {
			case unix.NFTA_SET_ELEM_KEY:
				e.key = valueOf(value)
			case nftaSetElemKeyEnd:
				last = valueOf(value)
			case unix.NFTA_SET_ELEM_DATA:
				e.data = valueOf(value)
			case unix.NFTA_SET_ELEM_EXPR:
				e.count = countOf(value)
			case unix.NFTA_SET_ELEM_USERDATA:
				if len(value) > 3 && value[0] == 0 && int(value[1]) == len(value)-2 {
					e.comment = value[2 : len(value)-1]
				}
			}
		})
		e.key = append(slices.Clip(e.key), last...)
		f(e)
	})
}

// valueOf is a nested value, or the name of the chain that a verdict leads to.
func valueOf(nested []byte) (out []byte) {
	_ = attributes(nested, func(kind uint16, value []byte) {
		switch kind {
		case unix.NFTA_DATA_VALUE:
			out = value
		case unix.NFTA_DATA_VERDICT:
			_ = attributes(value, func(kind uint16, value []byte) {
				if kind == unix.NFTA_VERDICT_CHAIN {
					out = bytes.TrimSuffix(value, []byte{0})
				}
			})
		}
	})
	return out
}

// unsupported reports whether an error says that the kernel has no nf_tables, or not for
// this family.
func unsupported(err error) bool {
	return errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EAFNOSUPPORT)
}
