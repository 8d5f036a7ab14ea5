package nftables

import (
	"encoding/binary"
	"slices"
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
}

// Every field has a type of a fixed size: nft 0.9.8 ends when it lists elements of others.
var (
	number   = field{"classid", 23, 4} // the type of a packet's priority
	protocol = field{"inet_proto", 12, 1}
	port     = field{"inet_service", 13, 2}
	verdict  = field{name: "verdict"}
)

func addressOf(family cluster.Family) field {
	if family == cluster.IPv6 {
		return field{"ipv6_addr", 8, 16}
	}
	return field{"ipv4_addr", 7, 4}
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
	// What packets to an address, and to a NodePort, are treated by. The two places have
	// the same shape but for the address.
	frontends, nodePorts place
	// classes leads from the class of a frontend to the chain that treats it, and shortcuts
	// from a class in place.inside, which is plain.
	classes, shortcuts *set
	// members are the endpoints of Services with client affinity, under numbers that begin
	// with that of their pool; localMembers are those that frontends for endpoints on this
	// node lead to. clients says which member of a pool a client has been to.
	members, localMembers, clients *set
	// hairpin are the endpoints, each as its own client.
	hairpin *set
}

// place is the sets for frontends of one kind of key.
type place struct {
	class  *set // the class of a frontend
	inside *set // the class for clients inside the cluster, where that is another
	// endpoints are in the slots of a frontend. With client affinity slots say which
	// member is in which slot.
	endpoints, slots *set
	sources          *set // the clients that restricted frontends are for
	drops            *set // frontends whose packets are dropped if nobody translates them
	// connections are all frontends. They count their new connections in a set of its own,
	// since a count ends with its element, and a frontend is in this one for as long as it
	// is there.
	connections *set
	// known are all frontends, too.
	known *set
}

func (p *place) sets() []*set {
	return []*set{p.class, p.inside, p.endpoints, p.slots, p.sources, p.drops, p.connections, p.known}
}

// newSchema returns the sets for a family. Where endpoints are counted, their sets have other
// names: one cannot become the other.
func newSchema(family cluster.Family, countEndpoints bool) *schema {
	address := addressOf(family)
	target := []field{address, port}
	placeOf := func(prefix string, key ...field) place {
		with := func(more field) []field { return append(slices.Clip(key), more) }
		endpoints := &set{name: prefix + "endpoints", key: with(number), data: target}
		if countEndpoints {
			endpoints.name, endpoints.counted = prefix+"counted-endpoints", true
		}
		return place{
			class:       &set{name: prefix + "frontends", key: key, data: []field{number}},
			inside:      &set{name: prefix + "inside", key: key, data: []field{number}},
			endpoints:   endpoints,
			slots:       &set{name: prefix + "slots", key: with(number), data: []field{number}},
			sources:     &set{name: prefix + "sources", key: with(address), flags: unix.NFT_SET_INTERVAL | nftSetConcat},
			drops:       &set{name: prefix + "drops", key: key},
			connections: &set{name: prefix + "connections", key: key, counted: true},
			known:       &set{name: prefix + "known", key: key},
		}
	}
	members := func(prefix string) *set {
		name := prefix + "members"
		if countEndpoints {
			name = prefix + "counted-members"
		}
		return &set{name: name, key: []field{number, protocol}, data: target, counted: countEndpoints}
	}
	return &schema{
		frontends: placeOf("", address, protocol, port),
		nodePorts: placeOf("nodeport-", protocol, port),
		classes:   &set{name: "classes", key: []field{number}, data: []field{verdict}},
		shortcuts: &set{name: "shortcuts", key: []field{number}, data: []field{verdict}},
		members:   members(""), localMembers: members("local-"),
		clients: &set{name: "clients", key: []field{number, address}, data: []field{number}, flags: unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT, size: maxClients},
		hairpin: &set{name: "hairpin", key: []field{address, address}},
	}
}

// maxClients bounds the clients that are remembered for their affinity, on the node, each once
// for a port of a Service. The kernel takes about 100 bytes for one, until its time is over, also
// if its endpoint has gone meanwhile: to find those clients all would have to be listed. Clients
// beyond that get any endpoint.
const maxClients = 1 << 20

// nftSetConcat is NFT_SET_CONCAT: the key has several parts, each a range.
const nftSetConcat = 0x80

// sets returns all of them.
func (s *schema) sets() []*set {
	return append(append(s.frontends.sets(), s.nodePorts.sets()...),
		s.classes, s.shortcuts, s.members, s.localMembers, s.clients, s.hairpin)
}

// membersOf are the members that frontends for all endpoints, or for those on this node, lead to.
func (s *schema) membersOf(local bool) *set {
	if local {
		return s.localMembers
	}
	return s.members
}

// isMap reports whether it has data.
func (s *set) isMap() bool { return s.data != nil }

// hasVerdicts reports whether its data is where packets go.
func (s *set) hasVerdicts() bool { return s.isMap() && s.data[0].name == verdict.name }

// declaration is the set's type as nft reads it.
func (s *set) declaration() string {
	text := "type " + names(s.key)
	if s.isMap() {
		text += " : " + names(s.data)
	}
	return text
}

func names(fields []field) string {
	var all []string
	for _, f := range fields {
		all = append(all, f.name)
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

// userdata says to nft, as its own sets do, in which order it is to print the bytes of a single
// number (libnftnl, include/udata.h). There is nothing else in it: some versions crash on
// what others write there (kubernetes/kubernetes 136786).
func (s *set) userdata() []byte {
	const keyOrder, dataOrder = 0, 1
	out := attribute(keyOrder, byteOrder(s.key))
	if s.isMap() {
		out = append(out, attribute(dataOrder, byteOrder(s.data))...)
	}
	return out
}

func byteOrder(fields []field) []byte {
	const none, host = 0, 1
	if len(fields) == 1 && fields[0] == number {
		return native(host)
	}
	return native(none)
}

// attribute is one of libnftnl's userdata.
func attribute(kind byte, value []byte) []byte {
	return append([]byte{kind, byte(len(value))}, value...)
}

func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }
