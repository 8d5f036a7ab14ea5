package nftables

import (
	"context"
	"errors"
	"fmt"

	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"golang.org/x/sys/unix"
)

// A table with both flags is its socket's alone: others can neither change nor delete it. It
// stays when the process ends, and the next one takes it over. Without the second flag
// (Linux 6.9) the table would go with the process, so it is both or none.
const (
	flagOwner   = 0x2 // NFT_TABLE_F_OWNER, Linux 5.12
	flagPersist = 0x4 // NFT_TABLE_F_PERSIST
)

// errOwned is that another process has the table.
var errOwned = errors.New("another process owns the table " + tableName + " of nf_tables: it runs kernelnat; stop it first")

// find opens the socket, and takes over the table if there is one.
func (b *Backend) find(ctx context.Context) (there bool, err error) {
	if err := b.open(); err != nil {
		return false, err
	}
	h := new(held)
	if err := b.socket.readTable(b.language, h); err != nil {
		return false, err
	}
	if !h.there {
		b.owned = false
		return false, nil
	}
	// The kernel takes the first flag off a table whose owner has ended.
	b.owned = h.flags&flagPersist != 0
	if !b.owned {
		return true, nil
	}
	return true, b.claim(ctx, flagOwner|flagPersist)
}

// claim creates the table or takes it over, with these flags.
func (b *Backend) claim(ctx context.Context, flags uint32) error {
	batch := newBatch(b.family)
	batch.addTable(flags)
	err := b.commit(ctx, batch)
	if errors.Is(err, unix.EPERM) && flags&flagOwner != 0 {
		return errOwned // whoever lacks CAP_NET_ADMIN could not even look for the table
	}
	return err
}

// create creates the table, owned if the kernel can have it so. It is a probe: an older
// kernel says that it cannot.
func (b *Backend) create(ctx context.Context) error {
	b.owned = false
	err := b.claim(ctx, flagOwner|flagPersist)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		return b.claim(ctx, 0)
	}
	if err == nil {
		b.owned = true
	}
	return err
}

// Cleanup implements kernelnat.Backend. A table that another process owns stays.
func (b *Backend) Cleanup(ctx context.Context) error {
	b.state = nil
	there, err := b.find(ctx)
	if unsupported(err) || err == nil && !there {
		return nil
	}
	guarded := false
	if err == nil {
		guarded, err = b.delete(ctx)
	}
	if err == nil && guarded && !b.settings.KeepLocalnet {
		// With the guard goes what it guards against.
		err = netfilter.SetRouteLocalnet(false)
	}
	if err != nil {
		return fmt.Errorf("delete table %s of nftables for %s: %w", tableName, b.family, err)
	}
	return nil
}

// delete removes the table. guarded says that the guard of loopback was in it.
func (b *Backend) delete(ctx context.Context) (guarded bool, err error) {
	chains := newHeld()
	if err := b.socket.readChains(b.language, chains); err != nil {
		return false, err
	}
	batch := newBatch(b.family)
	batch.deleteTable()
	if err := b.commit(ctx, batch); err != nil {
		return false, err
	}
	b.owned = false
	return chains.chains[chainLoopback] != nil, nil
}
