package convert

import (
	"fmt"
	"net/netip"
	"strings"

	netutils "k8s.io/utils/net"
)

// readAddr reads an address as Kubernetes reads those it has stored: numbers may begin
// with zeros, and an IPv4 address may be written as an IPv6 one (the API server takes
// them before Kubernetes 1.36). Others read them in other ways, so such an address
// comes with an error.
func readAddr(text string) (netip.Addr, error) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Zone() == "" && !ip.Is4In6() {
		return ip, nil
	}
	ip, ok := netip.AddrFromSlice(netutils.ParseIPSloppy(text))
	if !ok {
		return netip.Addr{}, fmt.Errorf("%q is not an IP address", text)
	}
	return ip.Unmap(), fmt.Errorf("%q is not how an IP address is written: write %s", text, ip.Unmap())
}

// broadcast is the limited broadcast address (RFC 919).
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// isShared reports whether an address is one that every machine has, or that stands for
// many. The rest of 240.0.0.0/4, and of 0.0.0.0/8, is unicast to Linux and to the API
// server, and in use.
func isShared(ip netip.Addr) bool {
	return ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip == broadcast
}

// readPrefix reads a range as readAddr does an address, with spaces around it.
func readPrefix(text string) (netip.Prefix, error) {
	text = strings.TrimSpace(text)
	if r, err := netip.ParsePrefix(text); err == nil && !r.Addr().Is4In6() {
		return r.Masked(), nil
	}
	_, network, err := netutils.ParseCIDRSloppy(text)
	if err == nil {
		ip, _ := netip.AddrFromSlice(network.IP)
		ones, _ := network.Mask.Size()
		if r := netip.PrefixFrom(ip, ones); r.IsValid() && !ip.Is4In6() {
			return r, fmt.Errorf("%q is not how a CIDR is written: write %s", text, r)
		}
	}
	return netip.Prefix{}, fmt.Errorf("%q is not a CIDR such as 192.0.2.0/24", text)
}
