package addrs

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The names that reverse names are below.
const (
	Reverse4 = "in-addr.arpa."
	Reverse6 = "ip6.arpa."
)

const digits = "0123456789abcdef"

// ReverseName returns the name that ParseReverse reads as the address.
func ReverseName(ip netip.Addr) string {
	b := make([]byte, 0, 4*16+len(Reverse6))
	for _, octet := range slices.Backward(ip.AsSlice()) {
		if ip.Is4() {
			b = append(strconv.AppendUint(b, uint64(octet), 10), '.')
		} else {
			b = append(b, digits[octet&15], '.', digits[octet>>4], '.')
		}
	}
	if ip.Is4() {
		return string(append(b, Reverse4...))
	}
	return string(append(b, Reverse6...))
}

// ParseReverse reads a reverse name, in lower case, as the network it stands for: an
// address if it has all labels. Octets have no leading zeros.
func ParseReverse(name string) (netip.Prefix, bool) {
	if labels, ok := strings.CutSuffix(name, "."+Reverse4); ok {
		return parseLabels(labels, 4, parseOctet)
	}
	if labels, ok := strings.CutSuffix(name, "."+Reverse6); ok {
		return parseLabels(labels, 32, parseNibble)
	}
	return netip.Prefix{}, false
}

// parseLabels reads at most most labels, each a digit of the address, from the
// right.
func parseLabels(labels string, most int, digit func(string) (byte, bool)) (netip.Prefix, bool) {
	var b [16]byte
	n := 0
	for more := true; more; n++ {
		dot := strings.LastIndexByte(labels, '.')
		value, ok := digit(labels[dot+1:])
		if !ok || n == most {
			return netip.Prefix{}, false
		}
		if most == 4 {
			b[n] = value
		} else {
			b[n/2] |= value << (4 * (1 - n%2))
		}
		more = dot >= 0
		labels = labels[:max(dot, 0)]
	}
	if most == 4 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), 8*n), true
	}
	return netip.PrefixFrom(netip.AddrFrom16(b), 4*n), true
}

func parseOctet(label string) (byte, bool) {
	if label == "" || len(label) > 3 || label[0] == '0' && label != "0" {
		return 0, false
	}
	n := 0
	for i := range len(label) {
		c := label[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return byte(n), n <= 255
}

func parseNibble(label string) (byte, bool) {
	digit := strings.Index(digits, label)
	return byte(digit), len(label) == 1 && digit >= 0
}

// AppendDashed spells an address as a label. A label must not end in a dash, so
// "2001:db8::" becomes "2001-db8--0".
func AppendDashed(b []byte, ip netip.Addr) []byte {
	from := len(b)
	b = ip.AppendTo(b)
	for i := from; i < len(b); i++ {
		if b[i] == '.' || b[i] == ':' {
			b[i] = '-'
		}
	}
	if b[len(b)-1] == '-' {
		b = append(b, '0')
	}
	return b
}

// ParseDashed reads an address with dashes for dots or colons, in any spelling.
func ParseDashed(label string) (netip.Addr, bool) {
	if ip, ok := parseDashed4(label); ok || strings.Trim(label, digits+"-") != "" {
		return ip, ok // most labels are none, and should not cost an error
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(label, "-", ":"))
	return ip, err == nil && ip.Zone() == "" && !ip.Is4In6()
}

func parseDashed4(label string) (netip.Addr, bool) {
	var b [4]byte
	for i := range b {
		octet, rest, more := strings.Cut(label, "-")
		value, ok := parseOctet(octet)
		if !ok || more != (i < len(b)-1) {
			return netip.Addr{}, false
		}
		b[i], label = value, rest
	}
	return netip.AddrFrom4(b), true
}
