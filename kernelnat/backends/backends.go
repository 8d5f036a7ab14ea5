// Package backends is the one list of what kernelnat can write its rules with. A
// backend is one entry there.
package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/iptables"
	"github.com/clusterip/clusterip/kernelnat/ipvs"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/nftables"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
	"golang.org/x/sys/unix"
)

// Backend is one of the list.
type Backend struct {
	Name string
	// Places says, in words, where its rules are.
	Places string
	// Lacks are the policies that it does not have.
	Lacks []cluster.Policy
	// StickyAtRandom says that it chooses at random for clients that are to keep their endpoint,
	// under any policy.
	StickyAtRandom bool
	// families returns those of both IP families. It writes nothing.
	families func(netfilter.Settings) (map[cluster.Family]kernelnat.Backend, error)
	// over is the name of the backend whose rules it writes too, with others in them; "" for none.
	over string
	// leave removes what is its own, for a backend that has taken its place; nil: what Cleanup
	// of its families removes.
	leave func(context.Context, cluster.Family, netfilter.Settings) error
	// missing says why this kernel cannot choose by a policy; nil: it can by all that are not in Lacks.
	missing func(cluster.Policy) error
	// entry is where packets come to this machine before their endpoint is chosen; nil: they do not.
	entry func(cluster.Family) netip.Prefix
	// probe says why this machine cannot have it. It changes nothing.
	probe func(context.Context) error
	// Rules prints what Sync of one family would write to a kernel without any rules,
	// on this node.
	Rules func(io.Writer, cluster.Family, kernelnat.State, netfilter.Settings) error
	// Look reads what the kernel holds of one Service, without writing anything, and returns
	// nil if there is nothing of this backend. The state has its Node and Ranges alone.
	Look func(context.Context, cluster.Family, plan.Service, kernelnat.State, netfilter.Settings) (*status.Kernel, error)
	// drift returns what the first Sync of a process would write to the kernel as it is, and left
	// what a Cleanup would remove of one family. They write nothing.
	drift func(context.Context, map[cluster.Family]kernelnat.State, netfilter.Settings) (map[cluster.Family][]status.Drift, error)
	left  func(context.Context, cluster.Family) ([]status.Drift, error)
	// Bounds are what one Service may ask of it.
	Bounds plan.Bounds
	// Policy is that of Services of which nothing is said.
	Policy cluster.Policy
}

var all = []Backend{
	{Name: Default, Places: "iptables, nft and legacy variant", Lacks: iptables.Lacks, families: iptables.New, probe: iptables.Probe, Rules: iptables.Rules, Look: iptables.Look, drift: iptables.Drift, left: iptables.Left, Bounds: plan.DefaultBounds},
	{Name: preferred, Places: "nftables", Lacks: nftables.Lacks, StickyAtRandom: true, families: nftables.New, probe: func(context.Context) error { return nftables.Probe() }, Rules: nftables.Rules, Look: nftables.Look, drift: nftables.Drift, left: nftables.Left, Bounds: nftables.Bounds},
	{Name: "ipvs", over: preferred, leave: ipvs.Leave, missing: new(ipvs.Schedulers).Missing, entry: ipvs.Range, Places: "IPVS", StickyAtRandom: true, families: ipvs.New, probe: func(context.Context) error { return ipvs.Probe() }, Rules: ipvs.Rules, Look: ipvs.Look, drift: ipvs.Drift, left: ipvs.Left, Bounds: ipvs.Bounds, Policy: ipvs.DefaultScheduler},
}

const (
	// Default is the backend that is used where none is named.
	Default = "iptables"
	// Auto stands for preferred where the kernel can have it, and else for Default.
	Auto      = "auto"
	preferred = "nftables"
)

// Find returns the backend of that name, and for Auto the one that it stands for on most
// kernels. The error says which there are.
func Find(name string) (Backend, error) {
	if name == Auto {
		name = preferred
	}
	i := slices.IndexFunc(all, func(b Backend) bool { return b.Name == name })
	if i < 0 {
		return Backend{}, fmt.Errorf("%q is not available in this version: use %s", name, Names())
	}
	return all[i], nil
}

// Choose returns the backend of that name, and for Auto the one that it stands for on this
// kernel, and why.
func Choose(name string) (b Backend, why string, err error) {
	why = "as configured"
	if name == Auto {
		name, why = standsFor(nftables.Probe())
	}
	b, err = Find(name)
	return b, why, err
}

// standsFor is what Auto stands for where preferred was tried with that result, and why.
func standsFor(probed error) (name, why string) {
	switch {
	case probed == nil:
		return preferred, "the kernel has all that it needs"
	case errors.Is(probed, unix.EPERM):
		return preferred, "it could not be tried without CAP_NET_ADMIN"
	}
	return Default, fmt.Sprintf("%s cannot be used here: %v", preferred, probed)
}

// Probe says why this machine cannot have the backend, or nil. It changes nothing.
func (b Backend) Probe(ctx context.Context) error { return b.probe(ctx) }

// Limit tells plans what they may ask of the backend.
func (b Backend) Limit(o *plan.Options) {
	o.Lacks, o.StickyAtRandom, o.Bounds = b.Lacks, b.StickyAtRandom, b.Bounds
}

// LimitHere is Limit, and tells plans what this kernel has too.
func (b Backend) LimitHere(o *plan.Options) {
	b.Limit(o)
	o.Missing = b.missing
}

// Entry is where packets in one IP family come to this machine before their endpoint is chosen; the zero
// Prefix: they do not.
func (b Backend) Entry(family cluster.Family) netip.Prefix {
	if b.entry == nil {
		return netip.Prefix{}
	}
	return b.entry(family)
}

// Missing says why this kernel cannot choose by a policy that the backend has, or nil. What is a
// module is loaded.
func (b Backend) Missing(p cluster.Policy) error {
	if b.missing == nil {
		return nil
	}
	return b.missing(p)
}

// New returns the backends of both IP families. It writes nothing. When one of them has
// written everything for the first time, it removes what the others of the list, or the
// kube-proxy of their kind, have left: the packets have gone by one set of rules or the
// other at every moment.
func (b Backend) New(settings netfilter.Settings) (map[cluster.Family]kernelnat.Backend, error) {
	families, err := b.families(settings)
	if err != nil {
		return nil, err
	}
	for family, backend := range families {
		families[family] = &alone{Backend: backend, name: b.Name, over: b.over, family: family, nodePorts: settings.NodePorts}
	}
	return families, nil
}

// alone is a backend that leaves no rules but its own.
type alone struct {
	kernelnat.Backend
	name      string
	over      string
	family    cluster.Family
	nodePorts netfilter.NodePorts
	is        bool
	since     time.Time // when connections of kube-proxy's IPVS mode were first waited for
}

// longestWait is for how long connections go on by the virtual servers that kube-proxy has made: those
// that are still open then end. Meanwhile the kernel is asked anew every few minutes.
const longestWait = 24 * time.Hour

func (a *alone) Sync(ctx context.Context, state kernelnat.State) ([]string, error) {
	written, errPartial := a.Backend.Sync(ctx, state)
	if a.is || state.Incomplete || errPartial != nil && !errors.Is(errPartial, kernelnat.ErrPartial) {
		return written, errPartial
	}
	for _, other := range all {
		if other.Name == a.name || other.Name == a.over {
			continue
		}
		// The guard that goes has been followed by another one.
		if err := other.remove(ctx, a.family, netfilter.Settings{KeepLocalnet: a.nodePorts.AtLoopback(state.Node)}); err != nil {
			return written, errors.Join(errPartial, fmt.Errorf("remove what the backend %s has left: %w: %w", other.Name, err, kernelnat.ErrRemains))
		}
	}
	if err := a.leaveProxy(state); err != nil {
		return written, errors.Join(errPartial, err)
	}
	a.is = true
	return written, errPartial
}

// leaveProxy removes what kube-proxy in its IPVS mode has left besides rules.
func (a *alone) leaveProxy(state kernelnat.State) error {
	if a.since.IsZero() {
		a.since = time.Now()
	}
	n, err := ipvs.LeaveProxy(a.family, state.Services, time.Since(a.since) < longestWait)
	switch {
	case err != nil:
		return fmt.Errorf("remove what kube-proxy's IPVS mode has left: %w: %w", err, kernelnat.ErrRemains)
	case n > 0:
		return fmt.Errorf("%d connections go by virtual servers that kube-proxy's IPVS mode has left, which stay until these end, %v at most: %w", n, longestWait, kernelnat.ErrRemains)
	}
	return nil
}

// remove removes the rules of one family. Whoever lacks the tools for them has none.
func (b Backend) remove(ctx context.Context, family cluster.Family, settings netfilter.Settings) error {
	if b.leave != nil {
		return b.leave(ctx, family, settings)
	}
	families, err := b.families(settings)
	if err != nil {
		return err
	}
	defer families[family].Close()
	if err := families[family].Cleanup(ctx); err != nil && !iptables.Absent(err) {
		return err
	}
	return nil
}

// Names are what a Corefile may choose, in words: "a, b or c".
func Names() string { return Auto + ", " + Written() }

// Written are the names of all backends, in words: "a, b or c".
func Written() string {
	names := each(all, ", ", func(b Backend) string { return b.Name })
	last := strings.LastIndex(names, ", ")
	return names[:last] + " or " + names[last+len(", "):]
}

// Places are where the rules of some backends are, in words; of all if none is given.
func Places(of ...Backend) string {
	return each(someOrAll(of), ", ", func(b Backend) string { return b.Places })
}

func someOrAll(some []Backend) []Backend {
	if len(some) == 0 {
		return all
	}
	return some
}

func each(of []Backend, separator string, word func(Backend) string) string {
	var words []string
	for _, b := range of {
		words = append(words, word(b))
	}
	return strings.Join(words, separator)
}

// Cleanup removes everything that some backends ever write, or all if none is given, and
// goes on after an error.
func Cleanup(ctx context.Context, of ...Backend) error {
	var errs []error
	of = someOrAll(of)
	iptablesToo := slices.ContainsFunc(of, func(b Backend) bool { return b.Name == Default })
	settings := netfilter.Settings{KeepLocalnet: !iptablesToo && iptables.Guards(ctx)}
	for _, b := range of {
		families, err := b.families(settings)
		errs = append(errs, err)
		for _, backend := range families {
			errs = append(errs, backend.Cleanup(ctx), backend.Close())
		}
	}
	return errors.Join(errs...)
}
