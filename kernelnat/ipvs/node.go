package ipvs

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routeProtocol marks our routes (ip route: proto 99). It is among the numbers that nobody is
// known to use (include/uapi/linux/rtnetlink.h).
const routeProtocol = 99

// prepare has the kernel take packets to virtual servers, and connection tracking learn what IPVS
// has chosen. counting says that the connections of endpoints are asked for.
func prepare(within netip.Prefix, counting bool) error {
	estimate := "0"
	if counting {
		estimate = "1"
	}
	for _, s := range []struct {
		name, value string
		needed      bool
	}{
		{"conntrack", "1", true},
		// A flow that connection tracking is told to forget goes to another endpoint at once.
		{"expire_nodest_conn", "1", true},
		// Rates, which nobody reads: the kernel would go through all endpoints every two seconds.
		// Linux 6.2 can leave them out, and the counts that can be read with them. Where sysctls may
		// not be written that is no reason to fail.
		{"run_estimation", estimate, false},
	} {
		if err := setSysctl(s.name, s.value); err != nil && (s.needed || counting && !errors.Is(err, fs.ErrNotExist)) {
			return err
		}
	}
	route, err := routeTo(within)
	if err == nil {
		err = netlink.RouteReplace(route)
	}
	if err != nil {
		return fmt.Errorf("add the local route to %s: %w", within, err)
	}
	return nil
}

const sysctls = "/proc/sys/net/ipv4/vs/"

func setSysctl(name, value string) error {
	now, err := os.ReadFile(sysctls + name)
	if err == nil && strings.TrimSpace(string(now)) != value {
		err = os.WriteFile(sysctls+name, []byte(value), 0)
	}
	if errors.Is(err, fs.ErrNotExist) && name == "conntrack" {
		if _, gone := os.Stat(sysctls); gone != nil {
			return errNotLoaded
		}
		return errNoConntrack
	}
	if err != nil {
		return fmt.Errorf("set net.ipv4.vs.%s to %s: %w", name, value, err)
	}
	return nil
}

func routeTo(within netip.Prefix) (*netlink.Route, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	return &netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: networkOf(within), Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Protocol: routeProtocol,
	}, nil
}

func networkOf(within netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: within.Addr().AsSlice(), Mask: net.CIDRMask(within.Bits(), within.Addr().BitLen())}
}

// removeRoute removes ours, if it is there.
func removeRoute(within netip.Prefix) error {
	family := netlink.FAMILY_V4
	if within.Addr().Is6() {
		family = netlink.FAMILY_V6
	}
	ours := &netlink.Route{Protocol: routeProtocol, Table: unix.RT_TABLE_LOCAL, Dst: networkOf(within)}
	routes, err := netlink.RouteListFiltered(family, ours, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE|netlink.RT_FILTER_DST)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // a host without IPv6
	}
	for i := range routes {
		err = errors.Join(err, netlink.RouteDel(&routes[i]))
	}
	if err != nil {
		return fmt.Errorf("remove the local route to %s: %w", within, err)
	}
	return nil
}
