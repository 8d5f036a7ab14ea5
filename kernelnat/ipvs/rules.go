package ipvs

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/nftables"
)

// Rules prints what Sync would write to a kernel without any rules, on this node: the route and the
// virtual servers as ip and ipvsadm read them, in comments of what nft reads. It writes nothing.
func Rules(w io.Writer, family cluster.Family, state kernelnat.State, settings netfilter.Settings) error {
	s := newServers(family, nil, 0)
	if err := nftables.RulesFor(w, family, state, settings, s); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "# ip route add local %s dev lo proto %d\n# ipvsadm --restore:\n", s.within, routeProtocol); err != nil {
		return err
	}
	var all []*server
	for _, of := range slices.Collect(maps.Values(s.wanted)) {
		for _, a := range of {
			all = append(all, a.server)
		}
	}
	slices.SortFunc(all, func(a, b *server) int { return compareIDs(a.id, b.id) })
	for _, v := range all {
		lines := []string{ipvsadm("-A", v.id) + " -s " + v.scheduler}
		for _, r := range v.reals {
			lines = append(lines, ipvsadmReal("-a", v.id, r))
		}
		for _, line := range lines {
			if _, err := fmt.Fprintf(w, "# %s\n", line); err != nil {
				return err
			}
		}
	}
	return nil
}

// ipvsadm is how ipvsadm(8) has something done with a virtual server.
func ipvsadm(what string, of id) string {
	return fmt.Sprintf("%s --%s-service %s", what, strings.ToLower(of.protocol.String()), of.at)
}

// ipvsadmReal is how it has an endpoint added or changed.
func ipvsadmReal(what string, of id, r real) string {
	return fmt.Sprintf("%s -r %s -m -w %d", ipvsadm(what, of), r.at, r.weight)
}
