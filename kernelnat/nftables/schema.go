package nftables

import (
	"encoding/binary"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"golang.org/x/sys/unix"
)

// tableName is that of our tables, one of each IP family.
const tableName = "clusterip"

// field is a part of a key or of data. Its type is what the nft program prints it by; the
// kernel knows its size alone.
type field struct {
	name   string // of the type, as nft has it
	typeID uint32 // nftables, include/datatype.h
	size   int    // in bytes
	// of is an expression of that type, for sets that can be declared by expressions alone.
	of string
	// userdata is of as nft notes it with the set.
	userdata []byte
}

// Numbers of nftables, include/expression.h and include/proto.h, in the order in which nft
// writes what a set's parts are.
const (
	userdataPayload = 7
	userdataMeta    = 9
	userdataConcat  = 13
	userdataNumgen  = 23
)

var (
	id       = field{"classid", 23, 4, "meta priority", typeOf(userdataMeta, uint32(unix.NFT_META_PRIORITY))}
	protocol = field{"inet_proto", 12, 1, "meta l4proto", typeOf(userdataMeta, uint32(unix.NFT_META_L4PROTO))}
	port     = field{"inet_service", 13, 2, "th dport", typeOf(userdataPayload, uint32(11), uint32(2))}
	slot     = field{"integer", 4, 4, "numgen random mod 65536", typeOf(userdataNumgen, uint32(unix.NFT_NG_RANDOM), uint32(65536), uint32(0))}
	verdict  = field{name: "verdict"}
)

func addressOf(family cluster.Family) field {
	if family == cluster.IPv6 {
		return field{"ipv6_addr", 8, 16, "ip6 daddr", typeOf(userdataPayload, uint32(13), uint32(9))}
	}
	return field{"ipv4_addr", 7, 4, "ip daddr", typeOf(userdataPayload, uint32(12), uint32(12))}
}

// set is a set of the table, or a map if it has data.
type set struct {
	name      string
	key, data []field
	flags     uint32
	size      uint32 // elements at most; 0: no limit
	counted   bool   // an element counts the packets that look it up
}

// schema is the sets of a table.
type schema struct {
	// What packets to an address, and to a NodePort, are treated by; and which pool they
	// go to. The two places have the same shape but for the address.
	frontends, nodePorts place
	// classes leads from the class of a frontend to the chain that treats it, and shortcuts
	// from a class in place.inside, which is plain: a chain may not lead to itself.
	classes, shortcuts *set
	// endpoints are the slots of pools. slots and members are the same for pools with
	// client affinity: a slot holds a member, whose number is never another's, and the
	// clients of members are in affinity.
	endpoints, slots, members, affinity *set
	// sources are the clients that restricted frontends of a pool are for.
	sources *set
	// hairpin are the endpoints, each as its own client.
	hairpin *set
}

// place is the sets for frontends of one kind of key.
type place struct {
	class  *set // the class of a frontend
	inside *set // the class for clients inside the cluster, where that is another
	pool   *set
	drops  *set // frontends whose packets are dropped if nobody translates them
	// connections counts the new connections to frontends. It is a set of its own, since a
	// count ends with its element, and a frontend is in no other for as long as it is there.
	connections *set
}

func (p *place) sets() []*set { return []*set{p.class, p.inside, p.pool, p.drops, p.connections} }

// newSchema returns the sets for a family. Where endpoints are counted, their set has another
// name: one cannot become the other.
func newSchema(family cluster.Family, countEndpoints bool) *schema {
	address := addressOf(family)
	target := []field{address, port}
	placeOf := func(prefix string, key ...field) place {
		return place{
			class:  &set{name: prefix + "frontends", key: key, data: []field{id}},
			inside: &set{name: prefix + "inside", key: key, data: []field{id}},
			pool:   &set{name: prefix + "pools", key: key, data: []field{id}},
			drops:  &set{name: prefix + "drops", key: key},

			connections: &set{name: prefix + "connections", key: key, counted: true},
		}
	}
	endpoints := &set{name: "endpoints", key: []field{id, protocol, slot}, data: target}
	if countEndpoints {
		endpoints.name, endpoints.counted = "counted-endpoints", true
	}
	return &schema{
		frontends: placeOf("", address, protocol, port),
		nodePorts: placeOf("nodeport-", protocol, port),
		classes:   &set{name: "classes", key: []field{id}, data: []field{verdict}},
		shortcuts: &set{name: "shortcuts", key: []field{id}, data: []field{verdict}},
		endpoints: endpoints,
		slots:     &set{name: "slots", key: []field{id, slot}, data: []field{id}},
		members:   &set{name: "members", key: []field{id, protocol}, data: target},
		affinity:  &set{name: "affinity", key: []field{address, id}, flags: unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT, size: maxClients},
		sources:   &set{name: "sources", key: []field{id, address}, flags: unix.NFT_SET_INTERVAL | nftSetConcat},
		hairpin:   &set{name: "hairpin", key: []field{address, address}},
	}
}

// maxClients bounds the clients that are remembered for their affinity, on the node. The
// kernel takes about 100 bytes for one. Clients beyond that get any endpoint.
const maxClients = 1 << 18

// nftSetConcat is NFT_SET_CONCAT: the key has several parts, each a range.
const nftSetConcat = 0x80

// sets returns all of them.
func (s *schema) sets() []*set {
	return append(append(s.frontends.sets(), s.nodePorts.sets()...),
		s.classes, s.shortcuts, s.endpoints, s.slots, s.members, s.affinity, s.sources, s.hairpin)
}

// isMap reports whether it has data.
func (s *set) isMap() bool { return s.data != nil }

// hasVerdicts reports whether its data is where packets go.
func (s *set) hasVerdicts() bool { return s.isMap() && s.data[0].name == verdict.name }

// typed reports whether nft knows the set by its types alone.
func (s *set) typed() bool {
	for _, f := range append(s.key[:len(s.key):len(s.key)], s.data...) {
		if f.name == slot.name {
			return false
		}
	}
	return true
}

// declaration is the set's type as nft reads it.
func (s *set) declaration() string {
	word, of := "type", func(f field) string { return f.name }
	if !s.typed() {
		word, of = "typeof", func(f field) string { return f.of }
	}
	text := word + " " + joined(s.key, of)
	if s.isMap() {
		text += " : " + joined(s.data, of)
	}
	return text
}

func joined(fields []field, of func(field) string) string {
	var all []string
	for _, f := range fields {
		all = append(all, of(f))
	}
	return strings.Join(all, " . ")
}

// typeIDs is the types of a concatenation, as nft packs them.
func typeIDs(fields []field) (all uint32) {
	for _, f := range fields {
		all = all<<6 | f.typeID
	}
	return all
}

// length is that of a key or of data in the kernel: its registers are of 4 bytes.
func length(fields []field) (n int) {
	if len(fields) == 1 {
		return fields[0].size
	}
	for _, f := range fields {
		n += (f.size + 3) &^ 3
	}
	return n
}

// Types of libnftnl, include/udata.h.
const (
	userdataKeyByteOrder  = 0
	userdataDataByteOrder = 1
	userdataMerge         = 2
	userdataKeyTypeOf     = 3
	userdataDataTypeOf    = 4
	userdataDataInterval  = 6

	byteOrderHost    = 1
	byteOrderNetwork = 2
)

// userdata is how nft is to print the set, as version 1.0.6 notes it: older and newer
// versions read that, while some crash on what others write (kubernetes/kubernetes 136786).
func (s *set) userdata() []byte {
	order := func(fields []field) []byte {
		switch {
		case len(fields) > 1 || fields[0].name == verdict.name:
			return native(uint32(0))
		case fields[0].name == id.name:
			return native(uint32(byteOrderHost))
		}
		return native(uint32(byteOrderNetwork))
	}
	out := attribute(userdataKeyByteOrder, order(s.key))
	if s.isMap() {
		out = append(out, attribute(userdataDataByteOrder, order(s.data))...)
	}
	if !s.typed() {
		out = append(out, attribute(userdataKeyTypeOf, concatenation(s.key))...)
		data := s.data[0].userdata
		if len(s.data) > 1 {
			data = concatenation(s.data)
		}
		out = append(out, attribute(userdataDataTypeOf, data)...)
	}
	if s.isMap() {
		out = append(out, attribute(userdataDataInterval, native(uint32(0)))...)
	}
	return out
}

// concatenation notes the parts of a key or of data.
func concatenation(fields []field) []byte {
	var parts []byte
	for i, f := range fields {
		parts = append(parts, attribute(byte(i), f.userdata)...)
	}
	return append(attribute(0, native(uint32(userdataConcat))), attribute(1, parts)...)
}

// typeOf notes an expression: its kind, and what it is made of.
func typeOf(kind uint32, of ...uint32) []byte {
	var parts []byte
	for i, n := range of {
		parts = append(parts, attribute(byte(i), native(n))...)
	}
	return append(attribute(0, native(kind)), attribute(1, parts)...)
}

// attribute is one of libnftnl's userdata.
func attribute(kind byte, value []byte) []byte {
	return append([]byte{kind, byte(len(value))}, value...)
}

func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
