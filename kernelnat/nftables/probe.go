package nftables

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// probeTable is there within one transaction alone, so that nobody ever sees it.
const probeTable = tableName + "-probe"

// Probe returns an error that says what this kernel lacks. It makes and removes, in one
// transaction for each IP family, a table with all sets and rules of each kind, where no
// packet comes in.
func Probe() error {
	s, err := dial()
	if err != nil {
		return err
	}
	defer s.Close()
	for _, family := range cluster.Families {
		batch, err := probe(family)
		if err == nil {
			err = s.commit(context.Background(), batch.transaction())
		}
		if err != nil {
			return fmt.Errorf("%s: %w", family, err)
		}
	}
	return nil
}

func probe(family cluster.Family) (*batch, error) {
	schema, batch := newSchema(family, true), newBatch(family)
	batch.table = probeTable
	batch.addTable(0)
	for i, s := range schema.sets() {
		batch.addSet(s, uint32(i+1))
	}
	clients := plan.Clients{Interface: "lo"}
	d := dialect{language: language{family}, dropInvalid: true, localhost: family == cluster.IPv4, nodePorts: []netip.Addr{netip.IPv6Unspecified()}}
	chains := append(schema.fixedChains(d), schema.sharedChains(d)...)
	for _, c := range []class{
		{masquerade: plan.Masquerade{Outside: clients}, slots: 2},
		{nodePort: true, shortcut: true, inside: clients, slots: 2},
		{restricted: true, masquerade: plan.Masquerade{All: true}, affinity: 1, slots: 2},
		{policy: cluster.RoundRobin, slots: 2},
		{policy: cluster.SourceHash, slots: 2},
	} {
		chains = append(chains, schema.classChain(d, c))
	}
	for i := range chains {
		chains[i].hook = nil
		batch.addChain(&chains[i])
	}
	for i := range chains {
		if err := batch.addRules(&chains[i]); err != nil {
			return nil, err
		}
	}
	batch.deleteTable()
	return batch, nil
}
