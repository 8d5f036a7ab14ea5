package ipvs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// proxySets are the sets that the rules of kube-proxy's IPVS mode look into (pkg/proxy/ipvs/ipset.go).
var proxySets = []string{
	"KUBE-LOOP-BACK", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL",
	"KUBE-LOAD-BALANCER", "KUBE-LOAD-BALANCER-LOCAL", "KUBE-LOAD-BALANCER-FW", "KUBE-LOAD-BALANCER-SOURCE-IP", "KUBE-LOAD-BALANCER-SOURCE-CIDR",
	"KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT-LOCAL-TCP", "KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT-LOCAL-UDP",
	"KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH", "KUBE-HEALTH-CHECK-NODE-PORT", "KUBE-IPVS-IPS",
}

// proxySet is the name of a set in one family.
func proxySet(family cluster.Family, name string) string {
	if family == cluster.IPv4 {
		return name
	}
	name = strings.Replace(name, "KUBE-", "KUBE-6-", 1)
	return name[:min(len(name), nl.IPSET_MAXNAMELEN-1)]
}

// setsModule is there if the kernel has sets. Who asks for one has it load the module.
const setsModule = "/sys/module/ip_set"

// removeSets removes kube-proxy's of one family, but for those that a rule of somebody else looks into.
func removeSets(family cluster.Family) error {
	if _, err := os.Stat(setsModule); err != nil {
		return nil
	}
	for _, name := range proxySets {
		name = proxySet(family, name)
		err := removeSet(name)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, nl.IPSetError(nl.IPSET_ERR_BUSY)) {
			return fmt.Errorf("remove set %s: %w", name, err)
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
