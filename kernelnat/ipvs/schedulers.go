package ipvs

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"sync"
	"time"

	"github.com/cloudflare/ipvs"
	"github.com/cloudflare/ipvs/netmask"
	"github.com/clusterip/clusterip/cluster"
)

// Schedulers knows which schedulers the kernel has. The zero value is ready; its methods may be
// called by any goroutine.
type Schedulers struct {
	kernel client
	lock   sync.Mutex
	asked  map[string]answer
}

type answer struct {
	missing error
	until   time.Time // somebody may load the module
}

// askAgain is how long a scheduler is not asked for that the kernel does not have: each time it starts modprobe.
const askAgain = time.Minute

// Missing says why the kernel cannot choose by a policy, with weights or without, and nil if it can
// or IPVS has no part in that. The kernel loads what it is asked for.
func (s *Schedulers) Missing(p cluster.Policy) error {
	if !p.OfIPVS() {
		return nil
	}
	s.lock.Lock()
	defer s.lock.Unlock()
	if err := s.ask(p.String()); err != nil {
		return err
	}
	return s.ask(weighted(p).String())
}

func (s *Schedulers) ask(scheduler string) error {
	known, there := s.asked[scheduler]
	if there && (known.missing == nil || time.Now().Before(known.until)) {
		return known.missing
	}
	if s.asked == nil {
		s.asked = make(map[string]answer)
	}
	err := s.kernel.try(scheduler)
	s.asked[scheduler] = answer{err, time.Now().Add(askAgain)}
	return err
}

// nowhere is where no virtual server ever is.
var nowhere = id{netip.MustParseAddrPort("[100:0:0:1:ffff::]:1"), cluster.TCP}

// try has the kernel look for a scheduler. It does that before it refuses a virtual server for a
// prefix of no length (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_add_service).
func (c *client) try(scheduler string) error {
	impossible := serviceOf(nowhere, scheduler)
	impossible.Netmask = netmask.MaskFrom(0, 128)
	err := c.send(func(k ipvs.Client) error { return k.CreateService(impossible) })
	if errors.Is(err, fs.ErrNotExist) {
		return noScheduler(scheduler)
	}
	return nil // any other error says nothing of the scheduler
}

func noScheduler(scheduler string) error {
	return fmt.Errorf("this kernel has no scheduler %s of IPVS, or cannot load it (modprobe ip_vs_%s)", scheduler, scheduler)
}
