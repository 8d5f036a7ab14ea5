package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// maxRejections bounds how often a Sync is tried without the Services at fault.
const maxRejections = 10

// quarantine writes the state without the Services whose rules are rejected, such
// as those that need a match which the kernel lacks, so that the others do not wait
// for their mend. What the kernel holds for those left out stays, and they are among
// those that the session has left. It returns what was wrong in any case;
// kernelnat.ErrPartial is in it if that is all.
func (b *Backend) quarantine(ctx context.Context, state kernelnat.State, d dialect, rejected error) (session, *arrangement, error) {
	var errs []error
	out := make(map[cluster.ServiceName]*held)
	for range maxRejections {
		names := atFault(rejected, state.Services)
		if len(names) == 0 {
			break
		}
		errs = append(errs, fmt.Errorf("new rules of Services %v are rejected, so they keep those that they had: %w", names, rejected))
		state.Services = slices.DeleteFunc(slices.Clone(state.Services), func(s plan.Service) bool {
			fault := slices.Contains(names, s.Name)
			if fault {
				out[s.Name] = &held{plans: []plan.Service{s}}
			}
			return fault
		})
		have, err := b.read(ctx)
		if err != nil {
			return session{}, nil, errors.Join(append(errs, err)...)
		}
		s := b.session(ctx, have)
		s.left = maps.Clone(out)
		var a *arrangement
		if a, rejected = s.sync(ctx, state, d, unknown(state)); rejected == nil {
			return s, a, errors.Join(append(errs, kernelnat.ErrPartial)...)
		}
	}
	return session{}, nil, errors.Join(append(errs, rejected)...)
}

// atFault finds the Services to blame for a rejection: the one whose rule it is
// and, if that rule uses a match that most do without, all that use the same.
func atFault(err error, services []plan.Service) []cluster.ServiceName {
	var r *rejection
	if !errors.As(err, &r) {
		return nil
	}
	if at, is := placeOf(tableFilter, r.chain); is && r.rule == "" {
		return withSpecial(services, at)
	}
	at := slices.IndexFunc(services, func(s plan.Service) bool {
		isChain := func(c chain) bool { return c.name == r.chain }
		return s.Name.String() == serviceOf(r.rule) || rank(r.chain) >= 0 && slices.ContainsFunc(render(s).chains, isChain)
	})
	if at < 0 {
		return nil
	}
	names := []cluster.ServiceName{services[at].Name}
	special := specialMatches(r.rule)
	for i, s := range services {
		if i != at && len(special) > 0 && uses(s, special) {
			names = append(names, s.Name)
		}
	}
	return names
}

// withSpecial finds the Services that have a rule in a shared chain with a match that
// most do without, where the kernel has not said which rule it rejects.
func withSpecial(services []plan.Service, at place) (names []cluster.ServiceName) {
	for _, s := range services {
		if slices.ContainsFunc(render(s).shared[at], func(rule string) bool { return len(specialMatches(rule)) > 0 }) {
			names = append(names, s.Name)
		}
	}
	return names
}

// specialMatches returns the matches of a rule that not every Service needs.
func specialMatches(rule string) []string {
	var out []string
	w := words(rule)
	for i := 0; i+1 < len(w); i++ {
		if w[i] == "-m" && !slices.Contains([]string{"comment", "tcp", "udp", "addrtype"}, w[i+1]) {
			out = append(out, w[i+1])
		}
	}
	return out
}

// uses reports whether a rule of the Service has all these matches.
func uses(s plan.Service, matches []string) bool {
	r := render(s)
	all := slices.Concat(r.shared[:]...)
	for _, c := range r.chains {
		all = append(all, c.rules...)
	}
	return slices.ContainsFunc(all, func(rule string) bool {
		of := specialMatches(rule)
		return !slices.ContainsFunc(matches, func(m string) bool { return !slices.Contains(of, m) })
	})
}
