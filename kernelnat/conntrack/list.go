package conntrack

import (
	"fmt"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
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

// Found are the flows to some frontends.
type Found struct {
	Some  []Flow // that have not ended
	Total int    // with those that have
	Ended int    // as only TCP tells
}

// List returns the flows to some frontends in one IP family, at most so many, and how many
// there are. It changes nothing. Where the kernel tracks more than MostListed it fails.
func List(family cluster.Family, frontends []plan.Key, most int) (out Found, err error) {
	if n, _, ok := Tracked(); ok && n > MostListed {
		return out, fmt.Errorf("the kernel tracks %d flows, which takes too long to go through: conntrack -L lists them", n)
	}
	own, err := ownAddresses()
	if err != nil {
		return out, err
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
		return out, fmt.Errorf("list %s conntrack entries: %w", family, err)
	}
	for _, f := range all {
		protocol, to := cluster.Protocol(f.Forward.Protocol), addrPort(f.Forward.DstIP, f.Forward.DstPort)
		if _, is := at(wanted, own, protocol, to); !is {
			continue
		}
		out.Total++
		if hasEnded(f.ProtoInfo) {
			out.Ended++
		} else if len(out.Some) < most {
			out.Some = append(out.Some, Flow{
				Protocol: protocol, Client: addrPort(f.Forward.SrcIP, f.Forward.SrcPort), To: to,
				Endpoint: addrPort(f.Reverse.SrcIP, f.Reverse.SrcPort),
			})
		}
	}
	return out, nil
}

// hasEnded reports whether both sides of a connection have ended it: its entry stays a while.
func hasEnded(info netlink.ProtoInfo) bool {
	tcp, is := info.(*netlink.ProtoInfoTCP)
	return is && tcp != nil && (tcp.State == nl.TCP_CONNTRACK_TIME_WAIT || tcp.State == nl.TCP_CONNTRACK_CLOSE)
}
