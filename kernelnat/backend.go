// Package kernelnat keeps the kernel's NAT in step with the Services of a
// cluster.Store: it plans each changed Service (package plan), hands the plans to
// a Backend, and has stale connections forgotten (package conntrack).
//
// What it writes stays in the kernel when the process ends, so that a restart
// interrupts nobody; only Cleanup removes it.
package kernelnat

import (
	"context"
	"errors"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// Change is what a Backend applies.
type Change = plan.Change

// State is all that the kernel is to hold.
type State struct {
	Services []plan.Service
	// Incomplete says that there may be other Services than those in Known. What
	// the kernel holds for them stays.
	Incomplete bool
	// Known are the Services that are known, those that need no rules too.
	Known map[cluster.ServiceName]bool
	// Node is this node, as far as it is known.
	Node plan.Node
	// Ranges are the ranges of ClusterIPs, of the family, in which whatever is
	// nobody's and no frontend of a Service is refused.
	Ranges []plan.Range
}

// ErrPartial is wrapped by errors of Sync after which everything is as it was asked
// for but for some Services, which have what they had before, and for which Large has
// a Work.
var ErrPartial = errors.New("all others have their rules")

// ErrSetAside is wrapped by errors of Step after which the Service may have its old rules,
// its new ones or some of both, and all others have theirs.
var ErrSetAside = errors.New("the others have their rules")

// Work changes one large Service step by step, so that others' changes come in between.
type Work interface {
	Service() cluster.ServiceName
	// Step does the next part, and reports whether nothing was left to do. After an
	// error that is not ErrSetAside the kernel's state is unknown; after any the
	// Work is over. A Work may be dropped at any time: what is done by then stays
	// until a change of the Service, for which Large makes a Work that goes on from
	// there.
	Step(ctx context.Context) (done bool, err error)
}

// Backend writes plans of one IP family to the kernel. Each method either does
// all it was asked or returns an error, after which the kernel's state is unknown
// and Sync is to be called before Apply. A Backend is used by one goroutine at a
// time.
type Backend interface {
	// Sync makes the kernel hold exactly this state, whatever it held before,
	// and says what it had to write, in words for a log. It never leaves a
	// moment without rules for a Service that had them.
	Sync(ctx context.Context, state State) (written []string, err error)
	// Apply changes what it must for these Services alone. Changes that need
	// no other rules send nothing.
	Apply(ctx context.Context, changes []Change) error
	// Large takes the changes out that are too large for one Apply and returns a
	// Work for each, and for each Service that the last Sync has left as it was, for
	// the same reason or since its rules are rejected. It writes nothing. Of one Service there is one Work at a
	// time: with another, and with Sync, it is over.
	Large(changes []Change) (rest []Change, works []Work)
	// Refuse makes these the Ranges of the State, with one small write. With none it
	// may come before Sync, and then takes nothing else away.
	Refuse(ctx context.Context, ranges []plan.Range) error
	// Untouched reports, at little cost, whether nobody else has written where
	// the backend writes since it last looked at everything. It says false if it
	// cannot tell.
	Untouched() bool
	// Cleanup removes everything the backend ever writes. It needs no Sync
	// before it and may be repeated.
	Cleanup(ctx context.Context) error
}
