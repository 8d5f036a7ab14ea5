package ipvs

import (
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// undone says what somebody has undone of what prepare does and no packet gets anywhere without. It
// changes nothing.
func undone(within netip.Prefix) (all []string) {
	for _, name := range []string{"conntrack", "expire_nodest_conn"} {
		now, err := os.ReadFile(sysctls + name)
		if value := strings.TrimSpace(string(now)); err == nil && value != "1" {
			all = append(all, fmt.Sprintf("net.ipv4.vs.%s is %s, and not 1", name, value))
		}
	}
	if routes, err := netlink.RouteGet(within.Addr().AsSlice()); err != nil || len(routes) == 0 || routes[0].Type != unix.RTN_LOCAL {
		all = append(all, fmt.Sprintf("no local route leads to %s", within))
	}
	return all
}
