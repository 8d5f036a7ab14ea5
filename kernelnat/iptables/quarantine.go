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
// as those that need a match which the kernel lacks, so that the others need not wait
// until these are mended. What the kernel holds for those left out stays, and they are
// in session.left. It always returns an error; kernelnat.ErrPartial is in it if all
// others are written.
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

// atFault finds the Services to blame for a rejection: the one whose rule it is and, if
// matches that few Services need may be the cause, all that have the same.
func atFault(err error, services []plan.Service) []cluster.ServiceName {
	var r *rejection
	if !errors.As(err, &r) {
		return nil
	}
	if at, is := placeOf(tableFilter, r.chain); is && r.rule == "" {
		// The kernel has not said which rule of a shared chain it rejects.
		return having(services, func(out rendering) bool {
			return slices.ContainsFunc(out.shared[at], func(rule rule) bool { return needsOf(rule.Protocol) != nil })
		})
	}
	var needs []string
	names := having(services, func(out rendering) bool {
		has, of := out.has(r)
		if has {
			needs = of
		}
		return has
	})
	if len(names) == 0 || len(needs) == 0 {
		return names
	}
	return having(services, func(out rendering) bool {
		has, _ := out.has(r)
		return has || out.needs(needs)
	})
}

func having(services []plan.Service, has func(rendering) bool) (names []cluster.ServiceName) {
	for _, s := range services {
		if has(render(s)) {
			names = append(names, s.Name)
		}
	}
	return names
}

// has reports whether a rejected rule is of a Service, and what matches it may be about.
func (r *rendering) has(rejected *rejection) (is bool, needs []string) {
	for _, c := range r.chains {
		if c.name == rejected.chain {
			return true, c.needs
		}
	}
	for _, rules := range r.shared {
		for _, rule := range rules {
			if rule.text == rejected.rule {
				return true, needsOf(rule.Protocol)
			}
		}
	}
	return false, nil
}

// needs reports whether there is a chain or rule with all these matches.
func (r *rendering) needs(matches []string) bool {
	all := func(of []string) bool {
		return !slices.ContainsFunc(matches, func(m string) bool { return !slices.Contains(of, m) })
	}
	return slices.ContainsFunc(r.chains, func(c chain) bool { return all(c.needs) }) ||
		slices.ContainsFunc(r.shared[:], func(rules []rule) bool {
			return slices.ContainsFunc(rules, func(rule rule) bool { return all(needsOf(rule.Protocol)) })
		})
}
