package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// maxQuarantined bounds how many Services a Sync leaves out. More rejections than
// that are not about Services.
const maxQuarantined = 10

// quarantine writes the state without the Services whose rules are rejected, such
// as one that needs a match which the kernel lacks, so that the others do not wait
// for their mend. What the kernel holds for those left out stays. It returns what
// was wrong in any case.
func (b *Backend) quarantine(ctx context.Context, state kernelnat.State, d dialect, rejected error) error {
	var errs []error
	for range maxQuarantined {
		name, found := atFault(rejected, state.Services)
		if !found {
			break
		}
		errs = append(errs, fmt.Errorf("Service %s: its rules are rejected, so it keeps those that it had: %w", name, rejected))
		state.Services = slices.DeleteFunc(slices.Clone(state.Services), func(s plan.Service) bool { return s.Name == name })
		state.Incomplete = true
		have, err := b.read(ctx)
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		s := b.session(ctx, have)
		if _, rejected = s.sync(state, d); rejected == nil {
			return errors.Join(errs...)
		}
	}
	return errors.Join(append(errs, rejected)...)
}

// atFault finds the Service to which the rule belongs that a rejection is about.
func atFault(err error, services []plan.Service) (cluster.ServiceName, bool) {
	var r *rejection
	if !errors.As(err, &r) {
		return cluster.ServiceName{}, false
	}
	named := serviceOf(r.rule)
	for _, s := range services {
		isChain := func(c chain) bool { return c.name == r.chain }
		if s.Name.String() == named || rank(r.chain) >= 0 && slices.ContainsFunc(render(s).chains, isChain) {
			return s.Name, true
		}
	}
	return cluster.ServiceName{}, false
}
