package netlab

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/vishvananda/netlink"
)

// Host is a machine or a pod in a namespace of its own.
type Host struct {
	*Namespace
	*Servers
	Name  string
	Addrs []netip.Addr
}

// newHost makes a host without links but loopback.
func newHost(name string, addrs ...netip.Addr) (*Host, error) {
	namespace, err := NewNamespace()
	if err != nil {
		return nil, err
	}
	h := &Host{Namespace: namespace, Servers: NewServers(), Name: name, Addrs: addrs}
	err = h.Do(func() error {
		if err := writeSysctls(hostSysctls()); err != nil {
			return err
		}
		return netlink.LinkSetUp(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Name: "lo", Index: 1}})
	})
	if err != nil {
		return nil, errors.Join(err, namespace.Close())
	}
	return h, nil
}

// hostSysctls makes addresses work at once (no duplicate address detection) and
// keeps the machine's own settings out: a namespace inherits some of them.
func hostSysctls() map[string]string {
	values := make(map[string]string)
	for _, scope := range []string{"all", "default"} {
		values["net/ipv4/conf/"+scope+"/rp_filter"] = "0"
		values["net/ipv4/conf/"+scope+"/accept_redirects"] = "0"
		values["net/ipv6/conf/"+scope+"/disable_ipv6"] = "0"
		values["net/ipv6/conf/"+scope+"/accept_dad"] = "0"
		values["net/ipv6/conf/"+scope+"/accept_ra"] = "0"
		values["net/ipv6/conf/"+scope+"/accept_redirects"] = "0"
	}
	return values
}

// configure gives the host's link addresses, and takes it up.
func (h *Host) configure(addrs ...netip.Prefix) error {
	return h.onUplink(func(link netlink.Link) error {
		for _, a := range addrs {
			if err := addAddress(link, a); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	})
}

// defaultRoutes sends all packets that have no other way through a gateway.
func (h *Host) defaultRoutes(gateways ...netip.Addr) error {
	var errs []error
	for _, g := range gateways {
		errs = append(errs, h.route(netip.PrefixFrom(g, 0).Masked(), g))
	}
	return errors.Join(errs...)
}

// route sends packets to a network through a gateway, which need not be in a network of
// the host's link.
func (h *Host) route(to netip.Prefix, through netip.Addr) error {
	return h.onUplink(func(link netlink.Link) error {
		err := netlink.RouteAdd(&netlink.Route{
			LinkIndex: link.Attrs().Index,
			Dst:       ipNet(to),
			Gw:        through.AsSlice(),
			Flags:     int(netlink.FLAG_ONLINK),
		})
		if err != nil {
			return fmt.Errorf("add route to %s through %s: %w", to, through, err)
		}
		return nil
	})
}

func (h *Host) onUplink(f func(netlink.Link) error) error {
	return h.Do(func() error {
		link, err := netlink.LinkByName(Uplink)
		if err != nil {
			return fmt.Errorf("find link %s of %s: %w", Uplink, h.Name, err)
		}
		return f(link)
	})
}

// Addr returns the host's first address of the family; the zero Addr if it has
// none.
func (h *Host) Addr(family cluster.Family) netip.Addr {
	for _, a := range h.Addrs {
		if cluster.FamilyOf(a) == family {
			return a
		}
	}
	return netip.Addr{}
}

// Close ends the host's servers with their connections, waits for them, and
// takes the host off its network. Closing twice is fine.
func (h *Host) Close() error {
	if h.open.Err() != nil {
		return nil
	}
	h.Servers.Close()
	return errors.Join(h.Do(deleteUplink), h.Namespace.Close())
}

// deleteUplink removes the host's link, and so the other end too, at once: with
// the namespace it would go some time later.
func deleteUplink() error {
	link, err := netlink.LinkByName(Uplink)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(link)
}
