package conntrack

import (
	"fmt"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// MostListed is how many flows the kernel may track for List to go through them: 100,000 take
// a third of a second.
const MostListed = 50_000

// Tracked returns how many connections the kernel tracks in the network namespace of this
// thread, and how many it may; false if it does not say, as before it tracks any.
func Tracked() (now, limit int, ok bool) {
	now, limit = readNumber(sysctls+"/nf_conntrack_count"), readNumber(sysctls+"/nf_conntrack_max")
	return now, limit, now >= 0 && limit >= 0
}

// Flow is a connection that the kernel tracks.
type Flow struct {
	Protocol   cluster.Protocol
	Client, To netip.AddrPort // as the client sees them
	Endpoint   netip.AddrPort // whose replies the client gets
}

// List returns the flows to some frontends in one IP family, at most so many, and how many
// there are. It changes nothing. Where the kernel tracks more than MostListed it fails.
func List(family cluster.Family, frontends []plan.Key, most int) (some []Flow, total int, err error) {
	if n, _, ok := Tracked(); ok && n > MostListed {
		return nil, 0, fmt.Errorf("the kernel tracks %d flows, which takes too long to go through: conntrack -L lists them", n)
	}
	own, err := ownAddresses()
	if err != nil {
		return nil, 0, err
	}
	wanted := make(map[plan.Key][]netip.AddrPort, len(frontends))
	for _, f := range frontends {
		wanted[f] = nil
	}
	inet := netlink.InetFamily(unix.AF_INET)
	if family == cluster.IPv6 {
		inet = unix.AF_INET6
	}
	all, err := netlink.ConntrackTableList(netlink.ConntrackTable, inet)
	if err != nil {
		return nil, 0, fmt.Errorf("list %s conntrack entries: %w", family, err)
	}
	for _, f := range all {
		protocol, to := cluster.Protocol(f.Forward.Protocol), addrPort(f.Forward.DstIP, f.Forward.DstPort)
		if _, is := at(wanted, own, protocol, to); !is {
			continue
		}
		if total++; len(some) < most {
			some = append(some, Flow{
				Protocol: protocol, Client: addrPort(f.Forward.SrcIP, f.Forward.SrcPort), To: to,
				Endpoint: addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort),
			})
		}
	}
	return some, total, nil
}
