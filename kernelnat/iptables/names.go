package iptables

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// The tables that rules are written to.
const (
	tableNAT    = "nat"
	tableFilter = "filter"
	tableMangle = "mangle"
)

// Chains of fixed name.
const (
	// Where the built-in chains send packets first: in nat one rule for each
	// port of each Service, in filter one for each that must not be reached.
	chainServices = "KUBE-SERVICES"
	// Ports of the node itself; the last rule of KUBE-SERVICES jumps there.
	chainNodePorts = "KUBE-NODEPORTS"
	// Marks a packet, and replaces the source address of marked packets.
	chainMarkMasq    = "KUBE-MARK-MASQ"
	chainPostrouting = "KUBE-POSTROUTING"
	// Lets translated packets pass where the policy of FORWARD is DROP.
	chainForward = "KUBE-FORWARD"
	// Empty; missing when somebody has flushed the table.
	chainCanary = "KUBE-PROXY-CANARY"

	// kube-proxy's alone. They are emptied when it is taken over from.
	chainExternalServices = "KUBE-EXTERNAL-SERVICES"
	chainProxyFirewall    = "KUBE-PROXY-FIREWALL"
)

// Chains in nat that belong to one port of a Service: a prefix and a hash.
const (
	prefixService  = "KUBE-SVC-" // chooses among all endpoints
	prefixLocal    = "KUBE-SVL-" // chooses among this node's endpoints
	prefixEndpoint = "KUBE-SEP-" // translates to one endpoint
	prefixFirewall = "KUBE-FW-"  // kube-proxy's: loadBalancerSourceRanges
	prefixExternal = "KUBE-EXT-" // kube-proxy's: traffic from outside
)

// servicePrefixes are in the order in which chains refer to each other, so that
// chains removed in this order are never in use.
var servicePrefixes = []string{prefixFirewall, prefixExternal, prefixService, prefixLocal, prefixEndpoint}

// ownChains are the chains of fixed name by table, in the order of
// servicePrefixes. The kubelet's chains (KUBE-FIREWALL, KUBE-KUBELET-CANARY,
// KUBE-IPTABLES-HINT, KUBE-MARK-DROP) are not among them.
var ownChains = map[string][]string{
	tableNAT:    {chainServices, chainNodePorts, chainPostrouting, chainMarkMasq, chainCanary},
	tableFilter: {chainServices, chainExternalServices, chainForward, chainNodePorts, chainProxyFirewall, chainCanary},
	tableMangle: {chainCanary},
}

// kubeletHints are chains that the kubelet makes in mangle, to tell others which
// variant of iptables it uses; the second one since before 1.24.
var kubeletHints = []string{"KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"}

var builtinChains = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"}

// rank is the place of a Service's chain in servicePrefixes; -1 if it is none.
func rank(chain string) int {
	for i, prefix := range servicePrefixes {
		if strings.HasPrefix(chain, prefix) {
			return i
		}
	}
	return -1
}

// portName is what kube-proxy calls a port of a Service, in hashes and comments.
func portName(service cluster.ServiceName, port string) string {
	if port == "" {
		return service.String()
	}
	return service.String() + ":" + port
}

// hash is the second half of the name of a Service's chain; iptables allows 28
// characters in all.
func hash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "")))
	return base32.StdEncoding.EncodeToString(sum[:])[:16]
}
