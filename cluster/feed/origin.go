package feed

import (
	"context"
	"net/netip"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/kubernetes"
	"github.com/clusterip/clusterip/cluster/manifest"
)

// Origin is where the objects of a feed are: see Folder and APIServer.
type Origin interface {
	// String says what is read, for the log.
	String() string
	// Accept returns what of the needs makes a difference to the source, or why
	// they cannot be met.
	Accept(Needs) (Needs, error)

	// key is the same for origins with the same objects, read in the same way.
	key() any
	// hasNodes reports whether every node has a Node there.
	hasNodes() bool
	// beside warns of another origin that one server reads too, or returns why it
	// must not.
	beside(other Origin, log Logger) error
	// check returns why a source could not start, as far as that is known by now.
	check() error
	// open makes a source, which is not started.
	open(Needs, Logger) (source, error)
	// present returns what is wrong with the objects by now. Nobody writes to it.
	present() []manifest.Problem
	// close is called when no source runs any more.
	close()
}

// source is what an Origin opens.
type source interface {
	// Run fills a Store until the context is done. When it has all that it is to
	// publish first, it calls takeOver with a function that publishes that.
	Run(ctx context.Context, store *cluster.Store, takeOver func(publish func())) error
	// BrokenFor reports whether it has been cut off for so long from what it follows.
	BrokenFor(time.Duration) bool
	// Warn and WarnRange are those of a Subscription. They do not wait.
	Warn(service cluster.ServiceName, reason, text string)
	WarnRange(cidr netip.Prefix, reason, text string)
	// Watches returns how the watch of each kind is doing.
	Watches() []kubernetes.Watch
}

// Needs are what somebody needs of a source beyond Services.
type Needs struct {
	Pods     bool
	PodsNode string // those on this Node are enough; "" for all
	PodNames bool   // of endpoints
	Imports  bool   // of ServiceImports
	Node     string // the Node whose packets are translated, and the ServiceCIDRs; or ""
}

// with returns the needs of both. One Node is enough: there is one kernelnat in a
// process, and the last to ask is the one that runs.
func (n Needs) with(o Needs) Needs {
	if o.Node == "" {
		o.Node = n.Node
	}
	switch {
	case !o.Pods:
		o.Pods, o.PodsNode = n.Pods, n.PodsNode
	case n.Pods && n.PodsNode != o.PodsNode:
		o.PodsNode = ""
	}
	o.PodNames = o.PodNames || n.PodNames
	o.Imports = o.Imports || n.Imports
	return o
}
