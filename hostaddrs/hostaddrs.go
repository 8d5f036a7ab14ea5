// Package hostaddrs knows the addresses of this machine, and the sockets that listen there.
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

// Of returns the addresses that hosts to listen on stand for, in the form that those of
// List have: a host that is no address, or the unspecified one, stands for all of them,
// as far as they can be had.
func Of(hosts []string) []netip.Addr {
	var out []netip.Addr
	for _, host := range hosts {
		if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
			out = append(out, ip.Unmap().WithZone(""))
			continue
		}
		all, _ := List()
		for _, a := range all {
			out = append(out, a.Addr())
		}
	}
	return out
}
