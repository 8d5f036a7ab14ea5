package ipvs

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/vishvananda/netlink"
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
		err := netlink.IpsetDestroy(name)
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, nl.IPSetError(nl.IPSET_ERR_BUSY)) {
			return fmt.Errorf("remove set %s: %w", name, err)
		}
	}
	return nil
}
