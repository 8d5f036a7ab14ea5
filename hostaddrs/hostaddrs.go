// Package hostaddrs knows the addresses of this machine.
package hostaddrs

import (
	"net"
	"net/netip"
)

// List returns the addresses of all interfaces, each with the length of its network's
// prefix, in the network namespace of the calling thread. They have no zone, and IPv4
// addresses are never in IPv6 form.
func List() ([]netip.Prefix, error) {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	out := make([]netip.Prefix, 0, len(found))
	for _, f := range found {
		if p, err := netip.ParsePrefix(f.String()); err == nil {
			out = append(out, p)
		}
	}
	return out, nil
}
