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
	// address and port of each Service, in filter one for each ClusterIP and
	// port that must not be reached.
	chainServices = "KUBE-SERVICES"
	// Ports of the node itself. In nat the last rules of KUBE-SERVICES jump
	// there; in filter it lets health checks in.
	chainNodePorts = "KUBE-NODEPORTS"
	// In filter, what is in a range of ClusterIPs and no frontend. kube-proxy has no
	// such chain and, when it takes over again, leaves it without a rule that leads to it.
	chainRanges = "KUBE-SERVICE-RANGES"
	// In filter, addresses and ports outside the cluster's that must not be
	// reached.
	chainExternalServices = "KUBE-EXTERNAL-SERVICES"
	// In filter, load balancers' packets that KUBE-FW-… has not let through.
	chainProxyFirewall = "KUBE-PROXY-FIREWALL"
	// Marks a packet, and replaces the source address of marked packets.
	chainMarkMasq    = "KUBE-MARK-MASQ"
	chainPostrouting = "KUBE-POSTROUTING"
	// Lets translated packets pass where the policy of FORWARD is DROP.
	chainForward = "KUBE-FORWARD"
	// The kubelet's as well: keeps packets of others from reaching loopback.
	chainFirewall = "KUBE-FIREWALL"
	// Empty; missing when somebody has flushed the table.
	chainCanary = "KUBE-PROXY-CANARY"
)

// Chains in nat that belong to one port of a Service: a prefix and a hash.
const (
	prefixService  = "KUBE-SVC-" // chooses among all endpoints
	prefixLocal    = "KUBE-SVL-" // chooses among this node's endpoints
	prefixEndpoint = "KUBE-SEP-" // translates to one endpoint
	prefixFirewall = "KUBE-FW-"  // loadBalancerSourceRanges
	prefixExternal = "KUBE-EXT-" // traffic to the other frontends than the ClusterIP
)

// prefixRange is that of the chains for ranges of addresses, which a place is split into
// when it is long; see trie. kube-proxy has none. When it takes over again it takes those
// in nat for chains of Services and removes them; otherwise they would keep chains in use
// that it has to delete. Those in filter it leaves, and empties the chain that leads to
// them. Its own names have no 0, which is no digit of base32.
const prefixRange = "KUBE-SVC-0"

// place is a chain in which many Services have rules.
type place uint8

const (
	natServices place = iota
	natNodePorts
	filterServices
	filterExternal
	filterNodePorts
	filterFirewall
	places
)

// shared are the table and the name of each place, and how the names of its chains
// for ranges of addresses begin, if its rules are for addresses.
var shared = [places]struct{ table, chain, ranges string }{
	natServices:     {tableNAT, chainServices, prefixRange},
	natNodePorts:    {tableNAT, chainNodePorts, ""},
	filterServices:  {tableFilter, chainServices, prefixRange + "S"},
	filterExternal:  {tableFilter, chainExternalServices, prefixRange + "E"},
	filterNodePorts: {tableFilter, chainNodePorts, ""},
	filterFirewall:  {tableFilter, chainProxyFirewall, prefixRange + "F"},
}

// placeOf returns the place that a chain is, if it is one.
func placeOf(table, chain string) (place, bool) {
	for p, s := range shared {
		if s.table == table && s.chain == chain {
			return place(p), true
		}
	}
	return 0, false
}

// servicePrefixes are in the order in which chains refer to each other, so that
// chains removed in this order are never in use.
var servicePrefixes = []string{prefixRange, prefixFirewall, prefixExternal, prefixService, prefixLocal, prefixEndpoint}

// ownChains are the chains of fixed name by table, in the order of
// servicePrefixes. The kubelet's chains (KUBE-FIREWALL, KUBE-KUBELET-CANARY,
// KUBE-IPTABLES-HINT, KUBE-MARK-DROP) are not among them.
var ownChains = map[string][]string{
	tableNAT:    {chainServices, chainNodePorts, chainPostrouting, chainMarkMasq, chainCanary},
	tableFilter: {chainServices, chainRanges, chainExternalServices, chainForward, chainNodePorts, chainProxyFirewall, chainCanary},
	tableMangle: {chainCanary},
}

// proxyIPVSChains are those that kube-proxy has in its IPVS mode alone, by table.
var proxyIPVSChains = map[string][]string{
	tableNAT:    {"KUBE-NODE-PORT", "KUBE-LOAD-BALANCER"},
	tableFilter: {"KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER", "KUBE-NODE-PORT", "KUBE-SOURCE-RANGES-FIREWALL"},
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
