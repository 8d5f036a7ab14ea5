package nftables

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"golang.org/x/sys/unix"
)

// probeTable is never there.
const probeTable = tableName + "-probe"

// endMarker is the length of the message that ends a transaction.
const endMarker = unix.SizeofNlMsghdr + 4 // struct nfgenmsg

// Probe returns an error that says what this kernel lacks. It has the kernel look at a table
// with all sets and rules of each kind, one transaction for each IP family, and take none
// of it: without its end a transaction is undone, as those of nft --check are.
func Probe() error {
	s, err := dial()
	if err != nil {
		return err
	}
	defer s.Close()
	for _, family := range cluster.Families {
		batch, err := probe(family)
		if err == nil {
			err = try(s, batch)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", family, err)
		}
	}
	return nil
}

// try has the kernel look at a transaction, and undo it. The last message, which removes the
// table, is not waited for.
func try(s *socket, b *batch) error {
	whole := b.transaction()
	return s.commit(context.Background(), whole[:len(whole)-endMarker])
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
