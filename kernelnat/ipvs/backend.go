// Package ipvs is a kernelnat.Backend that has IPVS choose the endpoint of a new connection, by any
// of the kernel's schedulers.
//
// IPVS chooses, and connection tracking carries: the table of package nftables translates the first
// packet of a connection to a virtual server, at an address of a small range that this node alone
// routes, to itself. IPVS chooses an endpoint there and translates on, and tells connection
// tracking. So all later packets are translated straight to the endpoint, and never come to IPVS;
// replies pass it, by which it counts connections. Everything else is nftables': who may ask, whose
// address an endpoint sees, refusal, clients that keep their endpoint. Its pools have one slot
// here, their virtual server. See docs/nat.md.
//
// Start with service.go (which pools are IPVS's), servers.go (what is wanted, and what the kernel
// has), then sync.go and apply.go.
//
// It needs what nftables needs, and ip_vs with CONFIG_IP_VS_NFCT.
package ipvs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/nftables"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// DefaultScheduler is that of Services of which nothing is said.
const DefaultScheduler = cluster.RR

// Bounds are what one Service may ask for. An endpoint is there once for each pool, however many
// frontends lead there, and one with client affinity as nftables has it.
var Bounds = nftables.Bounds

// Backend implements kernelnat.Backend for one IP family.
type Backend struct {
	*nftables.Backend
	servers  *servers
	known    bool    // what the kernel has is
	counts   *client // for Connections
	counting bool    // those of endpoints
}

var _ kernelnat.Backend = (*Backend)(nil)

// New returns the Backends of the IP families. It opens nothing: that IPVS is missing or may not be
// used is an error of the first Sync.
func New(settings netfilter.Settings) (map[cluster.Family]kernelnat.Backend, error) {
	backends, err := newBackends(settings, new(client))
	out := make(map[cluster.Family]kernelnat.Backend)
	for family, b := range backends {
		out[family] = b
	}
	return out, err
}

func newBackends(settings netfilter.Settings, k kernel) (map[cluster.Family]*Backend, error) {
	choosers := make(map[cluster.Family]nftables.Chooser)
	out, counts := make(map[cluster.Family]*Backend), new(client)
	for _, family := range cluster.Families {
		// What the process before has numbered is elsewhere, most likely, if IPVS has lost it.
		s := newServers(family, k, rand.Uint32N(addresses*ports))
		out[family], choosers[family] = &Backend{servers: s, counts: counts, counting: settings.CountEndpoints}, s
	}
	tables, err := nftables.NewFor(settings, choosers)
	if err != nil {
		return nil, err
	}
	for family, b := range out {
		b.Backend = tables[family]
	}
	return out, nil
}

// Untouched implements kernelnat.Backend. IPVS tells nobody who has written to it.
func (b *Backend) Untouched() bool {
	if !b.known || !b.Backend.Untouched() {
		return false
	}
	is, err := holds(b.servers.within, b.servers.held)
	return err == nil && is
}

// Probe says why this kernel cannot have the backend. It changes nothing.
func Probe() error {
	if err := nftables.Probe(); err != nil {
		return err
	}
	c := new(client)
	if err := c.open(); err != nil {
		return err
	}
	if _, err := os.Stat(sysctls + "conntrack"); errors.Is(err, fs.ErrNotExist) {
		return errNoConntrack
	}
	return nil
}

// Large implements kernelnat.Backend. Its Works are those of nftables, with what comes to IPVS
// before them and what goes after.
func (b *Backend) Large(changes []kernelnat.Change) (rest []kernelnat.Change, works []kernelnat.Work) {
	rest, works = b.Backend.Large(changes)
	plans := make(map[cluster.ServiceName]*plan.Service)
	for i := range changes {
		plans[changes[i].New.Name] = &changes[i].New
	}
	for i, w := range works {
		works[i] = &work{Work: w, Backend: b, plan: *plans[w.Service()]}
	}
	return rest, works
}

func (b *Backend) failed(what string, err error) error {
	b.known = false
	return fmt.Errorf("%s IPVS: %w", what, err)
}
