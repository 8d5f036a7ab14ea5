package cluster

import (
	"fmt"
	"net/netip"
	"strings"
)

// Protocol is a transport protocol a Service port may have. The zero value is
// invalid.
type Protocol uint8

// The protocols of core/v1, by their IANA protocol numbers.
const (
	TCP  Protocol = 6
	UDP  Protocol = 17
	SCTP Protocol = 132
)

// ParseProtocol reads a Kubernetes protocol name; "" means TCP (core/v1).
func ParseProtocol(s string) (Protocol, error) {
	switch s {
	case "", "TCP":
		return TCP, nil
	case "UDP":
		return UDP, nil
	case "SCTP":
		return SCTP, nil
	}
	return 0, fmt.Errorf("protocol %q is none of TCP, UDP, SCTP", s)
}

// String returns the Kubernetes spelling: "TCP", "UDP" or "SCTP".
func (p Protocol) String() string {
	switch p {
	case TCP:
		return "TCP"
	case UDP:
		return "UDP"
	case SCTP:
		return "SCTP"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

// Lower returns the spelling of DNS labels and netfilter: "tcp", "udp", "sctp".
func (p Protocol) Lower() string { return strings.ToLower(p.String()) }

// Family is an IP version.
type Family uint8

// The IP versions.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// Families are both of them.
var Families = []Family{IPv4, IPv6}

// FamilyOf returns the IP version of a valid address; an IPv4-mapped IPv6
// address counts as IPv6, so addresses are to be unmapped on their way in.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns "IPv4" or "IPv6".
func (f Family) String() string { return fmt.Sprintf("IPv%d", uint8(f)) }
