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
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
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
	// Ranges are the family's ranges of ClusterIPs. Packets to what is in them are
	// refused, but for the frontends of Services and what is somebody else's.
	Ranges []plan.Range
}

// ErrPartial is wrapped by an error of Sync that concerns some Services alone. These have
// the rules that they had, and Large has a Work for each. All else is as it was asked for.
var ErrPartial = errors.New("all others have their rules")

// ErrRemains is wrapped by an error of Sync that has done all but remove what another backend
// has left. That is to be tried again some time, with another Sync.
var ErrRemains = errors.New("all that is ours is written")

// ErrSetAside is wrapped by an error of Step that concerns the Work's Service alone. That
// Service may have its old rules, its new ones or some of both.
var ErrSetAside = errors.New("the others have their rules")

// Connections is how many new connections a port of a Service has had.
type Connections struct {
	Service  cluster.ServiceName
	Port     string
	Endpoint netip.AddrPort // the zero value: all of them
	Count    uint64
}

// Work changes one large Service step by step, so that others' changes come in between.
type Work interface {
	Service() cluster.ServiceName
	// Step does the next part, and reports whether nothing was left to do. After any
	// error the Work is over; after one that is not ErrSetAside the kernel's state is
	// unknown. A Work may be dropped at any time. What is done by then stays until the
	// Service changes; the Work that Large makes for the change goes on from there.
	Step(ctx context.Context) (done bool, err error)
}

// Backend writes plans of one IP family to the kernel. A Change carries the plan that was
// written before, so that a Backend need neither keep a copy of all plans nor list the
// kernel's rules to find the difference.
//
// Each method either does all it was asked or returns an error, after which the
// kernel's state is unknown and Sync is to be called before Apply. A Backend is used by
// one goroutine at a time.
type Backend interface {
	// Sync makes the kernel hold exactly this state, whatever it held before,
	// and says what it had to write, in words for a log. It never leaves a
	// moment without rules for a Service that had them.
	Sync(ctx context.Context, state State) (written []string, err error)
	// Apply changes what it must for these Services alone. Changes that need
	// no other rules send nothing.
	Apply(ctx context.Context, changes []Change) error
	// Large takes out the changes that are too large for one Apply, and returns a Work
	// for each. It also returns one for each Service that the last Sync has left as it
	// was, since it is large or its rules are rejected. Large writes nothing. A Work is
	// over when there is another one for its Service, and with the next Sync.
	Large(changes []Change) (rest []Change, works []Work)
	// Refuse replaces the Ranges of the State, with one small write. With no ranges it
	// may be called before Sync, and then removes no other rules.
	Refuse(ctx context.Context, ranges []plan.Range) error
	// Forget is for after Sync or Apply. It returns a function that has the kernel forget flows
	// that go where nobody serves any more, and says how many; see conntrack.Flows. That one may
	// run in another goroutine, beside all other methods but Forget and Close.
	Forget(stale *conntrack.Stale, draining *conntrack.Draining) (look func() (deleted uint, err error), err error)
	// Untouched reports, at little cost, whether nobody else has written where the
	// backend writes since it last looked at everything, and false if it cannot tell.
	// If nobody has, an audit can wait: reading all rules back takes as long as writing
	// them.
	Untouched() bool
	// Tables are those of nf_tables in which others can change what the last Sync has
	// written. There are none where nobody can, or where it is elsewhere.
	Tables() []string
	// Connections returns how many new connections ports of Services have had on this node
	// since they came, and their endpoints if these are counted; nothing where nobody
	// counts. It may be called at any time, by any goroutine.
	Connections() ([]Connections, error)
	// Cleanup removes everything the backend ever writes. It needs no Sync
	// before it and may be repeated.
	Cleanup(ctx context.Context) error
	// Close lets go of what the backend holds open. What it has written stays, and
	// another Backend may go on with it.
	Close() error
}
