package kernelnat

import (
	"context"
	"os"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
)

// Explained answers what `coredns explain` asks about NAT. It reads what Controllers have
// published and, of the kernel, what one Service has. It writes nothing.
type Explained struct {
	options Options
	// published is what a Controller has published in a family, and whether changes wait; or
	// what one would at a start.
	published func(cluster.Family) (nat status.NAT, pending bool)
	// backend is the name of the one that writes, "" if none does yet.
	backend func() string
	// here says that it is the process that writes: if the kernel holds nothing, that is wrong.
	here bool
}

// Preview returns what can be asked about NAT where no process of ours was asked: what it
// would do with these objects, and what the kernel holds.
func Preview(options Options, u cluster.Update) Explained {
	here, _ := kernelnat.Running() // what it does not know it does not count
	all := make(map[cluster.Family]status.NAT)
	for _, family := range cluster.Families {
		o := options.Options
		o.Family, o.Refused, o.Overlaps = family, nil, nil
		all[family] = kernelnat.PreviewStatus(u, o, here)
	}
	return Explained{
		options: options, backend: func() string { return options.Backend },
		published: func(f cluster.Family) (status.NAT, bool) { return all[f], false },
	}
}

// explained returns what can be asked about a nat that runs.
func (n *nat) explained() Explained {
	return Explained{
		options: n.options, here: true,
		backend: func() string {
			if name := n.chosen.Load(); name != nil {
				return *name
			}
			return ""
		},
		published: func(f cluster.Family) (status.NAT, bool) {
			if all := n.writing.Load(); all != nil {
				return (*all)[f].Status(), (*all)[f].Pending()
			}
			return status.NAT{Family: f}, true
		},
	}
}

// Facts implements explain.NAT.
func (e Explained) Facts(ctx context.Context, s *cluster.Service, family cluster.Family) status.FamilyFacts {
	out := status.FamilyFacts{Family: family, Backend: e.backend(), DryRun: e.options.DryRun}
	out.NAT, out.Pending = e.published(family)
	if s == nil {
		return out
	}
	if out.Plan, out.WhyNot = e.Plan(s, &out); out.WhyNot != "" || out.DryRun {
		return out
	}
	// Whether NAT runs elsewhere is for the kernel to say.
	if s.Proxy != e.options.Plan.Proxy {
		out.WhyNot = "the Service is left to another proxy (label service.kubernetes.io/service-proxy-name, option service_proxy_name)"
		return out
	}
	e.look(ctx, &out)
	// What was written meanwhile may be for a later state of the Service.
	after, pending := e.published(family)
	out.Pending = out.Pending || pending || !after.Updated.Equal(out.NAT.Updated)
	return out
}

// Plan implements explain.NAT.
func (e Explained) Plan(s *cluster.Service, common *status.FamilyFacts) (p status.Planned, whyNot string) {
	backend, err := backends.Find(common.Backend)
	if err != nil {
		return p, "NAT has not begun: see the log of the process"
	}
	limited := e.options.Plan
	e.options.limit(backend, &limited)
	return status.Plan(s, common.Family, limited, common.NAT), ""
}

// look reads the kernel.
func (e Explained) look(ctx context.Context, f *status.FamilyFacts) {
	state := kernelnat.State{Node: f.NAT.Node, Ranges: f.NAT.Ranges}
	held, by, err := backends.Look(ctx, f.Backend, f.Family, f.Plan.Granted, state, e.options.Settings)
	switch {
	case err != nil:
		f.WhyNot = err.Error()
	case held != nil:
		f.Kernel, f.Backend = held, by
	default:
		e.absent(f)
	}
}

// absent is for a kernel without any rules of ours.
func (e Explained) absent(f *status.FamilyFacts) {
	if os.Geteuid() != 0 && !e.here {
		f.WhyNot = "only root may look at it"
		return
	}
	runs, err := kernelnat.Running()
	switch {
	case err != nil:
		f.WhyNot = err.Error()
	case runs:
		f.Kernel = &status.Kernel{Wrong: []string{"it has none of our rules at all"}}
		for range f.Plan.Granted.Frontends {
			f.Kernel.Frontends = append(f.Kernel.Frontends, status.Held{})
		}
	default:
		f.Empty, f.WhyNot = true, "no kernelnat runs in this network namespace, and none has left rules"
		if f.Backend != backends.Auto {
			f.WhyNot += " of backend " + f.Backend
		}
	}
}

// Flows implements explain.NAT.
func (e Explained) Flows(families []status.FamilyFacts) *status.Flows {
	var out *status.Flows
	for i := range families {
		f := &families[i]
		if f.Kernel == nil {
			continue
		}
		if out == nil {
			out = new(status.Flows)
		}
		var keys []plan.Key
		serving := make(map[plan.Key]*plan.Pool)
		for _, front := range f.Plan.Granted.Frontends {
			keys = append(keys, front.Key)
			serving[front.Key] = &f.Plan.Granted.Pools[front.Pool]
		}
		found, err := conntrack.List(f.Family, keys, status.MaxFlows-len(out.Some))
		if err != nil {
			out.WhyNot = err.Error()
			continue
		}
		out.Total, out.Ended = out.Total+found.Total, out.Ended+found.Ended
		for _, flow := range found.Some {
			next := status.Flow{Protocol: flow.Protocol.String(), Client: flow.Client, To: flow.To, Endpoint: flow.Endpoint}
			pool := serving[plan.Key{At: flow.To, Protocol: flow.Protocol}]
			if pool == nil {
				pool = serving[plan.NodePortKey(cluster.FamilyOf(flow.To.Addr()), flow.To.Port(), flow.Protocol)]
			}
			next.Stale = pool != nil && !slices.Contains(pool.Serving(), flow.Endpoint)
			out.Some = append(out.Some, next)
		}
	}
	return out
}
