package ipvs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"

	"github.com/cloudflare/ipvs"
	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/nftables"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
	"golang.org/x/sys/unix"
)

// Look returns what the kernel holds of one Service, nil if there is no table of ours with virtual
// servers. Besides what nftables asks for, it asks for each virtual server and its endpoints.
func Look(ctx context.Context, family cluster.Family, p plan.Service, state kernelnat.State, settings netfilter.Settings) (*status.Kernel, error) {
	l := &look{servers: newServers(family, new(client), 0), led: make(map[led]*server)}
	out, err := nftables.LookFor(ctx, family, p, state, settings, l)
	if out == nil || err != nil {
		return out, err
	}
	out.Wrong = append(out.Wrong, undone(l.within)...)
	for i, f := range p.Frontends {
		of := &p.Pools[f.Pool]
		for _, local := range []bool{f.Local, false} {
			if s := l.led[led{of.Port, of.Protocol, local}]; s != nil && (local == f.Local || f.Inside.Known()) {
				if err := l.server(&out.Frontends[i], s); err != nil {
					return nil, err
				}
			}
			if !f.Local {
				break
			}
		}
	}
	return out, nil
}

// look is a Chooser that takes what the kernel has for what is wanted.
type look struct {
	*servers
	led map[led]*server
}

type led struct {
	port     string
	protocol cluster.Protocol
	local    bool
}

func (l *look) Server(service cluster.ServiceName, p *plan.Pool, local bool, before netip.AddrPort) (at netip.AddrPort, chosen bool) {
	at, chosen = l.servers.Server(service, p, local, before)
	if chosen {
		for _, a := range l.wanted[service] {
			if a.at == at && a.protocol == p.Protocol {
				l.led[led{p.Port, p.Protocol, local}] = a.server
			}
		}
	}
	return at, chosen
}

// shown is how many endpoints of a virtual server are shown.
const shown = 4

// server compares a virtual server with what it is to be.
func (l *look) server(out *status.Held, wanted *server) error {
	name := fmt.Sprintf("virtual server %s/%s", wanted.at, wanted.protocol)
	service, all, err := l.kernel.held(wanted.id)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotLoaded) {
		out.Wrong = append(out.Wrong, name+" is not there")
		return nil
	}
	if err != nil {
		return err
	}
	out.Meets = append(out.Meets, fmt.Sprintf("%s: scheduler %s, %d endpoints", name, service.Scheduler, len(all)))
	if service.Scheduler != wanted.scheduler {
		out.Wrong = append(out.Wrong, fmt.Sprintf("%s has scheduler %s, and not %s", name, service.Scheduler, wanted.scheduler))
	}
	held := &server{id: wanted.id, scheduler: service.Scheduler}
	delete(out.Endpoints, wanted.at)
	for i, d := range all {
		at := netip.AddrPortFrom(d.Address, d.Port)
		if out.Endpoints != nil {
			out.Endpoints[at] += d.Stats64.Connections
		}
		held.reals = append(held.reals, real{at, d.Weight})
		switch {
		case i < shown:
			out.Meets = append(out.Meets, describe(at, d))
		case i == shown:
			out.Meets = append(out.Meets, fmt.Sprintf("and %d more endpoints", len(all)-i))
		}
	}
	slices.SortFunc(held.reals, compareReals)
	fresh, changed := coming(held, wanted)
	for _, r := range fresh {
		out.Wrong = append(out.Wrong, fmt.Sprintf("%s lacks endpoint %s", name, r.at))
	}
	for _, r := range changed {
		out.Wrong = append(out.Wrong, fmt.Sprintf("%s has another weight for %s than %d", name, r.at, r.weight))
	}
	for _, r := range going(held, wanted) {
		out.Wrong = append(out.Wrong, fmt.Sprintf("%s has %s, which is no endpoint", name, r.at))
	}
	return nil
}

func describe(at netip.AddrPort, d ipvs.DestinationExtended) string {
	return fmt.Sprintf("endpoint %s: weight %d, %d active connections, %d others", at, d.Weight, d.ActiveConnections, d.InactiveConnections)
}
