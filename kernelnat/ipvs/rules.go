package ipvs

import (
	"cmp"
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
	slices.SortFunc(all, func(a, b *server) int { return cmp.Or(a.at.Compare(b.at), cmp.Compare(a.protocol, b.protocol)) })
	for _, v := range all {
		at := fmt.Sprintf("--%s-service %s", strings.ToLower(v.protocol.String()), v.at)
		if _, err := fmt.Fprintf(w, "# -A %s -s %s\n", at, v.scheduler); err != nil {
			return err
		}
		for _, r := range v.reals {
			if _, err := fmt.Fprintf(w, "# -a %s -r %s -m -w %d\n", at, r.at, r.weight); err != nil {
				return err
			}
		}
	}
	return nil
}
