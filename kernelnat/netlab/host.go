package netlab

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"

	"github.com/clusterip/clusterip/cluster"
	"github.com/vishvananda/netlink"
)

// Host is a machine or a pod in a namespace of its own.
type Host struct {
	*Namespace
	Name  string
	Addrs []netip.Addr

	mu      sync.Mutex
	closed  bool
	open    map[io.Closer]struct{} // the servers' sockets
	serving sync.WaitGroup
}

// newHost makes a host without links but loopback.
func newHost(name string, addrs ...netip.Addr) (*Host, error) {
	namespace, err := NewNamespace()
	if err != nil {
		return nil, err
	}
	h := &Host{Namespace: namespace, Name: name, Addrs: addrs, open: make(map[io.Closer]struct{})}
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

func (h *Host) configure(link string, addrs ...netip.Prefix) error {
	return h.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return fmt.Errorf("find link %s of %s: %w", link, h.Name, err)
		}
		for _, a := range addrs {
			if err := addAddress(l, a); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(l)
	})
}

func (h *Host) defaultRoutes(link string, gateways ...netip.Addr) error {
	return h.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return fmt.Errorf("find link %s of %s: %w", link, h.Name, err)
		}
		for _, g := range gateways {
			if err := addDefaultRoute(l, g); err != nil {
				return err
			}
		}
		return nil
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
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	for socket := range h.open {
		socket.Close()
	}
	h.mu.Unlock()
	h.serving.Wait()
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

// hold adds a server's socket to those that Close closes. On a closed host it
// closes the socket and returns false.
func (h *Host) hold(socket io.Closer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		socket.Close()
		return false
	}
	h.open[socket] = struct{}{}
	return true
}

// release closes a socket that Close need not close any more.
func (h *Host) release(socket io.Closer) {
	socket.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.open, socket)
}
