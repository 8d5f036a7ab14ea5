package preflight

import (
	"fmt"
	"net/netip"
	"slices"
)

// ports says which ports of the server are taken. Where the same program has one it is the
// server itself, which this Corefile may be meant for.
func ports(asked []Port, m Machine) (all []Finding) {
	ours := make(map[int]bool)
	for _, p := range asked {
		for _, s := range m.Sockets {
			if s.UDP != p.UDP || !clash(s.At, p.At) {
				continue
			}
			if by := s.By; by != nil && m.Self != "" && by.Executable == m.Self {
				if !ours[by.ID] {
					ours[by.ID] = true
					all = append(all, Finding{Here, fmt.Sprintf("this program runs already, as process %d, and has ports of this Corefile", by.ID),
						"all is well if that one is to be reloaded or replaced; stop it if not", false})
				}
				continue
			}
			network := "TCP"
			if p.UDP {
				network = "UDP"
			}
			effect := "the server does not start"
			if p.Later {
				effect = "the server starts without, and tries again"
			}
			mend := p.Mend
			if s.At.Addr().IsUnspecified() {
				mend = "choose another port: that one has it at all addresses"
			}
			all = append(all, Finding{p.Place, fmt.Sprintf("%s port %s, for %s, is taken by %s at %s, so %s", network, p.At, p.What, s.By, s.At, effect),
				"stop that, or " + mend, true})
			break // one is enough to know who it is
		}
	}
	return all
}

// addresses says which addresses of the server's ports the machine does not have.
func addresses(asked []Port, m Machine) (all []Finding) {
	told := make(map[netip.Addr]bool)
	for _, p := range asked {
		at := p.At.Addr().Unmap()
		has := func(a Address) bool { return a.Prefix.Addr() == at.WithZone("") }
		if told[at] || at.IsUnspecified() || at.IsLoopback() || len(m.Addresses) == 0 || slices.ContainsFunc(m.Addresses, has) {
			continue
		}
		told[at] = true
		effect := "the server does not start"
		if p.Later {
			effect = "the server starts without, and tries again"
		}
		all = append(all, Finding{p.Place, fmt.Sprintf("this machine does not have the address %s, for %s, so %s", at, p.What, effect),
			"add the address to an interface, or choose one that the machine has: ip -brief address", true})
	}
	return all
}

// clash reports whether two sockets cannot both be there. One at :: has the IPv4 packets too,
// as those of Go have.
func clash(a, b netip.AddrPort) bool {
	x, y := a.Addr().Unmap(), b.Addr().Unmap()
	return a.Port() == b.Port() && (x == y || covers(x, y) || covers(y, x))
}

func covers(x, y netip.Addr) bool {
	return x.IsUnspecified() && (x.Is6() || y.Is4())
}
