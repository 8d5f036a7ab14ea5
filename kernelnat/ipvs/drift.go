package ipvs

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/nftables"
	"github.com/clusterip/clusterip/status"
)

// Drift returns what the Sync of a process that starts now would write of each family: of nftables'
// table, and of virtual servers in the words of ipvsadm. It writes nothing to the kernel.
func Drift(ctx context.Context, states map[cluster.Family]kernelnat.State, settings netfilter.Settings) (map[cluster.Family][]status.Drift, error) {
	of, choosers := make(map[cluster.Family]*servers), make(map[cluster.Family]nftables.Chooser)
	for family := range states {
		s := newServers(family, nil, 0)
		held, err := readHeld(s.within)
		if err != nil {
			return nil, err
		}
		s.begin(held)
		of[family], choosers[family] = s, s
	}
	out, err := nftables.DriftFor(ctx, states, settings, choosers)
	if err != nil {
		return nil, err
	}
	for family, s := range of {
		out[family] = append(out[family], s.drift()...)
	}
	return out, nil
}

// Left returns, as Drift does, what Leave would remove.
func Left(_ context.Context, family cluster.Family) ([]status.Drift, error) {
	held, err := readHeld(ranges[family])
	if err != nil || len(held) == 0 {
		return nil, err
	}
	return []status.Drift{{Change: status.DriftRemove, Text: fmt.Sprintf("ipvsadm: %d virtual servers in %s", len(held), ranges[family]), Of: "of the backend ipvs"}}, nil
}

// drift compares what is wanted with what the kernel has.
func (s *servers) drift() (all []status.Drift) {
	for _, service := range slices.SortedFunc(maps.Keys(s.wanted), cluster.ServiceName.Compare) {
		for _, a := range s.wanted[service] {
			all = append(all, serverDrift(service, s.held[a.id], a.server)...)
		}
	}
	for _, at := range slices.SortedFunc(maps.Keys(s.held), compareIDs) {
		if !s.owned[at.at] {
			all = append(all, status.Drift{Change: status.DriftRemove, Text: ipvsadm("-D", at), Of: "of no Service"})
		}
	}
	return all
}

// serverDrift is that of one virtual server; held is nil if it is not there.
func serverDrift(service cluster.ServiceName, held, wanted *server) (all []status.Drift) {
	add := func(change status.DriftChange, text string) {
		all = append(all, status.Drift{Change: change, Service: status.DriftOwner(service), Text: text})
	}
	if held == nil {
		add(status.DriftAdd, ipvsadm("-A", wanted.id)+" -s "+wanted.scheduler)
		held = &server{id: wanted.id}
	}
	fresh, changed := coming(held, wanted)
	for _, r := range fresh {
		add(status.DriftAdd, ipvsadmReal("-a", wanted.id, r))
	}
	for _, r := range changed {
		add(status.DriftChanged, ipvsadmReal("-e", wanted.id, r))
	}
	for _, r := range going(held, wanted) {
		add(status.DriftRemove, ipvsadm("-d", wanted.id)+" -r "+r.at.String())
	}
	return all
}
