package allocator

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
)

// The size of the static band is min(max(minStatic, size/staticShare), maxStatic),
// or none where the CIDR has no more than minStatic addresses (KEP-3070).
const (
	minStatic   = 16
	maxStatic   = 256
	staticShare = 16
)

// addressRange numbers the usable addresses of a CIDR from 0 and searches them.
// The static band comes first; dynamic addresses come from above it while there
// are any, so that someone who demands a low address mostly finds it free.
type addressRange struct {
	prefix netip.Prefix
	family cluster.Family
	first  netip.Addr // number 0: the one after the network address
	size   uint64     // how many are usable
	static uint64     // how many of them are in the static band
	used   struct{ static, dynamic uint64 }
}

func newRange(cidr netip.Prefix) (*addressRange, error) {
	if !cidr.IsValid() || cidr.Addr().Is4In6() {
		return nil, fmt.Errorf("service CIDR %s is no CIDR such as 10.43.0.0/16", cidr)
	}
	prefix := cidr.Masked()
	family := cluster.FamilyOf(prefix.Addr())
	if family == cluster.IPv6 && prefix.Bits() < 64 {
		return nil, fmt.Errorf("service CIDR %s is too large: the shortest IPv6 prefix is /64", cidr)
	}
	total := uint64(math.MaxUint64) // of a /64: one less than there are
	if hostBits := prefix.Addr().BitLen() - prefix.Bits(); hostBits < 64 {
		total = 1 << hostBits
	}
	// The network address is never used, nor is the IPv4 broadcast address.
	reserved := uint64(1)
	if family == cluster.IPv4 {
		reserved = 2
	}
	if total <= reserved {
		return nil, fmt.Errorf("service CIDR %s has no usable address: give a larger one", cidr)
	}
	r := &addressRange{prefix: prefix, family: family, first: prefix.Addr().Next(), size: total - reserved}
	if total > minStatic {
		r.static = min(max(minStatic, total/staticShare), maxStatic)
	}
	// A CIDR of 17 to 18 addresses does not exist, so the band always fits.
	return r, nil
}

// at returns the address with a number below size. Prefixes are /64 or longer,
// so the sum stays within the lower half.
func (r *addressRange) at(number uint64) netip.Addr {
	if r.family == cluster.IPv4 {
		b := r.first.As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(number))
		return netip.AddrFrom4(b)
	}
	b := r.first.As16()
	binary.BigEndian.PutUint64(b[8:], binary.BigEndian.Uint64(b[8:])+number)
	return netip.AddrFrom16(b)
}

// index is the inverse of at; it is false for an address that is not usable.
func (r *addressRange) index(addr netip.Addr) (uint64, bool) {
	if !r.prefix.Contains(addr) {
		return 0, false
	}
	low := func(addr netip.Addr) uint64 {
		if b := addr.As16(); r.family == cluster.IPv6 {
			return binary.BigEndian.Uint64(b[8:])
		}
		b := addr.As4()
		return uint64(binary.BigEndian.Uint32(b[:]))
	}
	// The network address is one below the first and wraps to a huge number.
	number := low(addr) - low(r.first)
	return number, number < r.size
}

// count notes that an address of the range was taken (1) or released (-1).
func (r *addressRange) count(addr netip.Addr, change int) {
	used := &r.used.dynamic
	if number, _ := r.index(addr); number < r.static {
		used = &r.used.static
	}
	*used += uint64(change)
}

func (r *addressRange) isFull() bool { return r.used.static+r.used.dynamic == r.size }

// free finds an address for a Service in a range that is not full, the same one on every
// machine where the same addresses are taken.
func (r *addressRange) free(service cluster.ServiceName, taken func(netip.Addr) bool) netip.Addr {
	sum := sha256.Sum256([]byte(r.family.String() + " " + service.String()))
	hash := binary.BigEndian.Uint64(sum[:])
	base, n := r.static, r.size-r.static
	if r.used.dynamic == n {
		base, n = 0, r.static
	}
	offset := hash % n
	for taken(r.at(base + offset)) {
		if offset++; offset == n {
			offset = 0
		}
	}
	return r.at(base + offset)
}
