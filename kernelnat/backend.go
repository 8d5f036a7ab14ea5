// Package kernelnat keeps the kernel's NAT in step with the Services of a
// cluster.Store: it plans each changed Service (package plan), hands the plans to
// a Backend, and has stale connections forgotten (package conntrack).
//
// What it writes stays in the kernel when the process ends, so that a restart
// interrupts nobody; only Cleanup removes it.
package kernelnat

import (
	"context"

	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Change is what a Backend applies.
type Change = plan.Change

// State is all that the kernel is to hold.
type State struct {
	Services []plan.Service
	// Incomplete says that there may be other Services, of which nothing is
	// known. What the kernel holds for them stays.
	Incomplete bool
}

// Backend writes plans of one IP family to the kernel. Each method either does
// all it was asked or returns an error, after which the kernel's state is unknown
// and Sync is to be called before Apply. A Backend is used by one goroutine at a
// time.
type Backend interface {
	// Sync makes the kernel hold exactly this state, whatever it held before.
	// It never leaves a moment without rules for a Service that had them.
	Sync(ctx context.Context, state State) error
	// Apply changes what it must for these Services alone. Changes that need
	// no other rules send nothing.
	Apply(ctx context.Context, changes []Change) error
	// Cleanup removes everything the backend ever writes. It needs no Sync
	// before it and may be repeated.
	Cleanup(ctx context.Context) error
}
