package ipvs

import (
	"context"
	"errors"
	"fmt"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
)

// Cleanup implements kernelnat.Backend. Virtual servers elsewhere are others', and stay.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.known = false
	return errors.Join(b.Backend.Cleanup(ctx), b.servers.clear())
}

// Leave removes what this backend has in one family besides the table of nftables. It is for the
// backend that has taken its place.
func Leave(_ context.Context, family cluster.Family, _ netfilter.Settings) error {
	return newServers(family, new(client), 0).clear()
}

func (s *servers) clear() error {
	held, err := readHeld(s.within)
	if err != nil {
		return err
	}
	s.begin(held)
	for of := range held {
		if err := s.remove(of); err != nil {
			return fmt.Errorf("clear IPVS: %w", err)
		}
	}
	return removeRoute(s.within)
}
