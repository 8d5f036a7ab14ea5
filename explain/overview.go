package explain

import (
	"context"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/status"
)

// Overview says how a server is; the Meters are for who reads them to add.
func (c *Catalogue) Overview(ctx context.Context) status.Overview {
	out := status.Overview{Schema: status.Schema, At: time.Now(), Blocks: []status.Block{}}
	for _, p := range c.parts {
		f := status.BlockFacts{Source: p.Source(), DNS: p.Names.DNS(), Counts: p.Store.Counts()}
		if p.Told != nil {
			f.Told = p.Told()
		}
		f.Frontends, f.Wrong = c.counts(ctx, p)
		if p.NAT != nil {
			for _, family := range cluster.Families {
				f.Families = append(f.Families, p.NAT.Facts(ctx, nil, family))
			}
		}
		out.Blocks = append(out.Blocks, status.NewBlock(f))
	}
	return out
}
