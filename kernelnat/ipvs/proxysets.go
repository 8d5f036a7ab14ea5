package ipvs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// proxySets are the ipsets that rules of kube-proxy's IPVS mode refer to, as IPv4 has them
// (pkg/proxy/ipvs/ipset.go of Kubernetes).
var proxySets = []string{
	"KUBE-LOOP-BACK", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL",
	"KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL", "KUBE-LOAD-BALANCER-FW", "KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-LOAD-BALANCER-SOURCE-CIDR",
	"KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT-LOCAL-UDP",
	"KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-HEALTH-CHECK-NODE-PORT", "KUBE-IPVS-IPS",
}

// proxySet is the name of one in a family. That of IPv6 is cut where the kernel would not take it.
func proxySet(name string, family cluster.Family) string {
	if family == cluster.IPv4 {
		return name
	}
	name = "KUBE-6-" + strings.TrimPrefix(name, "KUBE-")
	return name[:min(len(name), nl.IPSET_MAXNAMELEN-1)]
}

// setsLoaded is there where the kernel has ipsets: asked for one, it would load them.
const setsLoaded = "/sys/module/ip_set"

// removeProxySets removes those of a family. The rules that refer to them are gone.
func removeProxySets(family cluster.Family) error {
	if _, err := os.Stat(setsLoaded); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, name := range proxySets {
		name = proxySet(name, family)
		if err := removeSet(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove ipset %s, which kube-proxy's IPVS mode has left: %w", name, err)
		}
	}
	return nil
}

// removeSet does what netlink.IpsetDestroy does, which panics at errors that are not the kernel's.
func removeSet(name string) error {
	const what = nl.IPSET_CMD_DESTROY
	request := nl.NewNetlinkRequest(what|unix.NFNL_SUBSYS_IPSET<<8, nl.GetIpsetFlags(what))
	request.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_NETLINK, Version: nl.NFNETLINK_V0})
	request.AddData(nl.NewRtAttr(nl.IPSET_ATTR_PROTOCOL, nl.Uint8Attr(nl.IPSET_PROTOCOL)))
	request.AddData(nl.NewRtAttr(nl.IPSET_ATTR_SETNAME, nl.ZeroTerminated(name)))
	_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	if number, is := errors.AsType[unix.Errno](err); is && number >= nl.IPSET_ERR_PRIVATE {
		return nl.IPSetError(number)
	}
	return err
}
