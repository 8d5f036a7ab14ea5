package nftables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// statement is a part of a rule: as nft reads it, and as the kernel does.
type statement struct {
	text  string
	exprs []expr.Any
}

// rule is some statements, one after the other.
type rule []statement

func (r rule) String() string {
	var words []string
	for _, s := range r {
		words = append(words, s.text)
	}
	return strings.Join(words, " ")
}

func (r rule) exprs() (all []expr.Any) {
	for _, s := range r {
		all = append(all, s.exprs...)
	}
	return all
}

// operand is something that a rule reads, into registers of 4 bytes.
type operand struct {
	text  string
	size  int // in registers
	read  func(into int) []expr.Any
	parts int // of a concatenation
}

// register names one as the kernel itself does.
func register(n int) uint32 {
	if n%4 == 0 {
		return unix.NFT_REG_1 + uint32(n/4)
	}
	return unix.NFT_REG32_00 + uint32(n)
}

func metaOf(text string, key expr.MetaKey, size int) operand {
	return operand{text, size, func(into int) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: register(into)}} }, 1}
}

func payload(text string, base expr.PayloadBase, offset, length int) operand {
	return operand{text, (length + 3) / 4, func(into int) []expr.Any {
		return []expr.Any{&expr.Payload{OperationType: expr.PayloadLoad, DestRegister: register(into), Base: base, Offset: uint32(offset), Len: uint32(length)}}
	}, 1}
}

// concat is several operands, one after the other.
func concat(all ...operand) operand {
	var texts []string
	size := 0
	for _, o := range all {
		texts = append(texts, o.text)
		size += o.size
	}
	return operand{strings.Join(texts, " . "), size, func(into int) (exprs []expr.Any) {
		for _, o := range all {
			exprs = append(exprs, o.read(into)...)
			into += o.size
		}
		return exprs
	}, len(all)}
}

var (
	l4proto  = metaOf("meta l4proto", expr.MetaKeyL4PROTO, 1)
	iifname  = metaOf("iifname", expr.MetaKeyIIFNAME, 4)
	dport    = payload("th dport", expr.PayloadBaseTransportHeader, 2, 2)
	priority = metaOf("meta priority", expr.MetaKeyPRIORITY, 1)
)

// setPriorityTo sets the packet's priority to a number.
func setPriorityTo(n uint32) statement {
	return prioritised(priorityText(n), &expr.Immediate{Register: register(0), Data: native(n)})
}

// priorityText is a number as nft has priorities.
func priorityText(n uint32) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprintf("%x:%x", n>>16, n&0xffff)
}

func prioritised(text string, exprs ...expr.Any) statement {
	return statement{"meta priority set " + text, append(exprs, &expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: register(0)})}
}

// setRandom sets it to one of n numbers from an offset on, each with the same chance.
func setRandom(n int, offset uint32) statement {
	return prioritised(fmt.Sprintf("numgen random mod %d offset %d", n, offset),
		&expr.Numgen{Register: register(0), Type: unix.NFT_NG_RANDOM, Modulus: uint32(n), Offset: offset})
}

// setNext sets it to the next of n numbers, by turns. The rule has a count of its own.
func setNext(n int, offset uint32) statement {
	return prioritised(fmt.Sprintf("numgen inc mod %d offset %d", n, offset),
		&expr.Numgen{Register: register(0), Type: unix.NFT_NG_INCREMENTAL, Modulus: uint32(n), Offset: offset})
}

// hashSeed is the same on all nodes, so that they agree.
const hashSeed = 0x10ad

// setHashed sets it to one of n numbers, always the same for the same value.
func setHashed(of operand, n int, offset uint32) statement {
	const value = 4 // a register beyond that of the number
	return prioritised(fmt.Sprintf("jhash %s mod %d seed %#x offset %d", of.text, n, hashSeed, offset), append(of.read(value), &expr.Hash{
		SourceRegister: register(value), DestRegister: register(0), Length: uint32(4 * of.size), Modulus: uint32(n), Seed: hashSeed, Offset: offset, Type: expr.HashTypeJenkins,
	})...)
}

// language makes statements for packets of one IP family.
type language struct{ family cluster.Family }

// ip is what the family's packets are called by nft.
func (l language) ip() string {
	if l.family == cluster.IPv6 {
		return "ip6"
	}
	return "ip"
}

func (l language) nfproto() uint8 {
	if l.family == cluster.IPv6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

func (l language) saddr() operand {
	if l.family == cluster.IPv6 {
		return payload("ip6 saddr", expr.PayloadBaseNetworkHeader, 8, 16)
	}
	return payload("ip saddr", expr.PayloadBaseNetworkHeader, 12, 4)
}

func (l language) daddr() operand {
	if l.family == cluster.IPv6 {
		return payload("ip6 daddr", expr.PayloadBaseNetworkHeader, 24, 16)
	}
	return payload("ip daddr", expr.PayloadBaseNetworkHeader, 16, 4)
}

// is compares an operand with a value.
func is(o operand, equal bool, value []byte, text string) statement {
	op, sign := expr.CmpOpEq, ""
	if !equal {
		op, sign = expr.CmpOpNeq, "!= "
	}
	return statement{o.text + " " + sign + text, append(o.read(0), &expr.Cmp{Op: op, Register: register(0), Data: value})}
}

// from matches clients, or all others.
func (l language) from(c plan.Clients, is bool) statement {
	if c.Range.IsValid() {
		return l.in(l.saddr(), c.Range, is)
	}
	return named(c.Interface, is)
}

// in matches an address in a prefix, or outside of it.
func (l language) in(o operand, p netip.Prefix, in bool) statement {
	p = p.Masked()
	if p.IsSingleIP() {
		return is(o, in, p.Addr().AsSlice(), p.Addr().String())
	}
	size := p.Addr().BitLen() / 8
	mask := make([]byte, size)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	compared := is(o, in, p.Addr().AsSlice(), p.String())
	masked := &expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: uint32(size), Mask: mask, Xor: make([]byte, size)}
	compared.exprs = slices.Insert(compared.exprs, len(compared.exprs)-1, expr.Any(masked))
	return compared
}

// named matches packets that come in over an interface, or with "+" at its end over all
// whose names begin so; or all others.
func named(name string, equal bool) statement {
	const length = 16 // IFNAMSIZ
	value := make([]byte, length)
	copy(value, name)
	if all, ok := strings.CutSuffix(name, "+"); ok {
		return is(iifname, equal, []byte(all), `"`+all+`*"`)
	}
	return is(iifname, equal, value, `"`+name+`"`)
}

// masked matches the bits of a number in host byte order.
func masked(o operand, mask, value uint32, text string) statement {
	exprs := append(o.read(0),
		&expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: 4, Mask: native(mask), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: register(0), Data: native(value)})
	return statement{text, exprs}
}

// changed sets bits of a number that goes with the packet: (it & mask) ^ xor.
func changed(o operand, key expr.MetaKey, mask, xor uint32, text string) statement {
	exprs := append(o.read(0),
		&expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: 4, Mask: native(mask), Xor: native(xor)},
		&expr.Meta{Key: key, SourceRegister: true, Register: register(0)})
	return statement{text, exprs}
}

var mark = metaOf("meta mark", expr.MetaKeyMARK, 1)

func setMark(bit uint8) statement {
	m := uint32(1) << bit
	return changed(mark, expr.MetaKeyMARK, ^m, m, fmt.Sprintf("meta mark set meta mark | %#08x", m))
}

func flipMark(bit uint8) statement {
	m := uint32(1) << bit
	return changed(mark, expr.MetaKeyMARK, ^uint32(0), m, fmt.Sprintf("meta mark set meta mark ^ %#08x", m))
}

func unmarked(bit uint8) statement {
	m := uint32(1) << bit
	return masked(mark, m, 0, fmt.Sprintf("meta mark & %#08x == 0", m))
}

// setPriority sets the packet's priority to what a map has for a key. Without an element
// the rule ends.
func setPriority(key operand, m *set) statement {
	return prioritised(key.text+" map @"+m.name, append(key.read(0), mapped(m)...)...)
}

func mapped(m *set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register(0), DestRegister: register(0), IsDestRegSet: true, SetName: m.name}}
}

// member matches what is in a set, or is not.
func member(key operand, s *set, is bool) statement {
	sign := ""
	if !is {
		sign = "!= "
	}
	return statement{key.text + " " + sign + "@" + s.name, append(key.read(0), &expr.Lookup{SourceRegister: register(0), SetName: s.name, Invert: !is})}
}

// follow goes where a map says; without an element on to the next rule.
func follow(key operand, m *set) statement {
	return statement{key.text + " vmap @" + m.name, append(key.read(0), &expr.Lookup{
		SourceRegister: register(0), DestRegister: unix.NFT_REG_VERDICT, IsDestRegSet: true, SetName: m.name,
	})}
}

// dnat translates to what a map has for a key. Without an element the rule ends.
func (l language) dnat(key operand, m *set) statement {
	addr, port := register(0), register(1)
	if l.family == cluster.IPv6 {
		port = register(4)
	}
	exprs := append(key.read(0), mapped(m)...)
	return statement{"dnat " + l.ip() + " to " + key.text + " map @" + m.name, append(exprs, &expr.NAT{
		Type: expr.NATTypeDestNAT, Family: uint32(l.nfproto()), RegAddrMin: addr, RegAddrMax: addr, RegProtoMin: port, RegProtoMax: port, Specified: true,
	})}
}

// remember has a map lead from a key to a value for some time, unless the map leads somewhere
// from there already: then it does so for as long again. If the map is full the rule ends.
func remember(key, value operand, m *set, seconds uint32) statement {
	out := dynamic(unix.NFT_DYNSET_OP_UPDATE, key, value, m)
	out.exprs[len(out.exprs)-1].(*expr.Dynset).Timeout = time.Duration(seconds) * time.Second
	out.text = fmt.Sprintf("update @%s { %s timeout %ds : %s }", m.name, key.text, seconds, value.text)
	return out
}

// forget takes a key out of a map. The kernel wants a value, and does not look at it.
func forget(key, value operand, m *set) statement {
	const opDelete = 2 // NFT_DYNSET_OP_DELETE
	out := dynamic(opDelete, key, value, m)
	out.text = fmt.Sprintf("delete @%s { %s : %s }", m.name, key.text, value.text)
	return out
}

func dynamic(operation uint32, key, value operand, m *set) statement {
	return statement{exprs: append(append(key.read(0), value.read(key.size)...), &expr.Dynset{
		SrcRegKey: register(0), SrcRegData: register(key.size), SetName: m.name, Operation: operation,
	})}
}

// local matches packets whose address, source or destination, is this node's; or all others.
func local(source, is bool) statement {
	end, sign, op := "daddr", "", expr.CmpOpEq
	if source {
		end = "saddr"
	}
	if !is {
		sign, op = "!= ", expr.CmpOpNeq
	}
	return statement{"fib " + end + " type " + sign + "local", []expr.Any{
		&expr.Fib{Register: register(0), ResultADDRTYPE: true, FlagSADDR: source, FlagDADDR: !source},
		&expr.Cmp{Op: op, Register: register(0), Data: native(unix.RTN_LOCAL)},
	}}
}

// ctBits matches connections with one of the bits of a property.
func ctBits(key expr.CtKey, bits uint32, text string) statement {
	return statement{text, []expr.Any{
		&expr.Ct{Register: register(0), Key: key},
		&expr.Bitwise{SourceRegister: register(0), DestRegister: register(0), Len: 4, Mask: native(bits), Xor: native(0)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register(0), Data: native(0)},
	}}
}

var (
	isNew         = ctBits(expr.CtKeySTATE, expr.CtStateBitNEW, "ct state new")
	isInvalid     = ctBits(expr.CtKeySTATE, expr.CtStateBitINVALID, "ct state invalid")
	isEstablished = ctBits(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED, "ct state established,related")
	// isTranslated matches connections whose destination has been translated (IPS_DST_NAT).
	isTranslated = ctBits(expr.CtKeySTATUS, 1<<5, "ct status dnat")
	isTCP        = is(l4proto, true, []byte{unix.IPPROTO_TCP}, "tcp")
)

func jumpTo(chain string) statement { return verdictOf("jump "+chain, expr.VerdictJump, chain) }
func goTo(chain string) statement   { return verdictOf("goto "+chain, expr.VerdictGoto, chain) }

var (
	drop     = verdictOf("drop", expr.VerdictDrop, "")
	goBack   = verdictOf("return", expr.VerdictReturn, "")
	reset    = statement{"reject with tcp reset", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}}
	anyPorts = statement{"masquerade fully-random", []expr.Any{&expr.Masq{FullyRandom: true}}}
)

func verdictOf(text string, kind expr.VerdictKind, chain string) statement {
	return statement{text, []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}}
}

// unreachable refuses a packet with the family's ICMP error.
func (l language) unreachable() statement {
	code := uint8(3) // ICMP_PORT_UNREACH
	if l.family == cluster.IPv6 {
		code = 4 // ICMPV6_PORT_UNREACH
	}
	return statement{"reject", []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: code}}}
}

// bigEndian is for numbers that the kernel takes in network byte order.
func bigEndian(n uint32) []byte { return binaryutil.BigEndian.PutUint32(n) }

// noPriority takes the priority off a packet.
var noPriority = setPriorityTo(0)

// isMember matches packets whose priority is the number of a member.
var isMember = masked(priority, membersMask, members, "meta priority & f000:0 == d000:0")

// poolOfPriority is what the number of a member has in common with those of its pool. nft reads
// it at the beginning of a concatenation alone.
var poolOfPriority = operand{"meta priority & " + priorityText(^uint32(ofOnePool)), 1, func(into int) []expr.Any {
	return append(priority.read(into), &expr.Bitwise{
		SourceRegister: register(into), DestRegister: register(into), Len: 4, Mask: native(^uint32(ofOnePool)), Xor: native(0),
	})
}, 1}
