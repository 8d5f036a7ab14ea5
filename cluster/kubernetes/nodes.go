package kubernetes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/convert"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// To watch all Nodes from each of them would cost the API server a message for every
// Node with every heartbeat of one. So the others are listed: in pages, and as often as
// costs all of them together the same however many there are.
const (
	nodesInPage  = 500
	nodesListed  = 2 * time.Second       // for each Node, between two lists
	nodesSpread  = 20 * time.Millisecond // for each Node, before a list when ranges change
	nodesAtLeast = time.Minute
	nodesRetry   = 10 * time.Second
	nodesTime    = time.Minute // for one list
)

const otherNodes = "nodes (of others)"

// lookForNeighbours has the other Nodes listed if the ranges are others than before, so
// that it is not known which of them are in those.
func (s *Source) lookForNeighbours(j *joiner) {
	if s.options.Node == "" {
		return
	}
	ranges := j.serviceCIDRs()
	anew := s.ranges == nil || !slices.Equal(s.ranges, ranges)
	j.neighboursKnown = len(ranges) == 0 || j.neighboursKnown && !anew
	if anew {
		s.ranges = ranges
		select {
		case <-s.newRanges:
		default:
		}
		s.newRanges <- ranges
	}
}

// followNeighbours lists them until the context is done.
func (s *Source) followNeighbours(ctx context.Context) {
	var ranges []netip.Prefix
	total := 0
	again := time.NewTimer(nodesAtLeast)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case ranges = <-s.newRanges:
			// All nodes hear of them at once, and are not to ask at once.
			again.Reset(rand.N(time.Duration(total)*nodesSpread + 1))
			continue
		case <-again.C:
		}
		nodes, n, err := s.listNodes(ctx, ranges)
		if ctx.Err() != nil {
			return
		}
		switch {
		case apierrors.IsForbidden(err):
			s.troubles.set(otherNodes, fmt.Errorf("list forbidden: give the ServiceAccount the verb list for nodes; addresses of other Nodes that are in ServiceCIDRs are not known: %w; %w", err, ErrGoingOn))
		case err != nil:
			s.troubles.set(otherNodes, explain("list", corev1.Resource("nodes"), err))
			again.Reset(nodesRetry)
			continue
		default:
			total = n
			s.troubles.set(otherNodes, nil)
		}
		wait := max(nodesAtLeast, time.Duration(total)*nodesListed)
		again.Reset(wait*3/4 + rand.N(wait/2))
		in := ranges
		s.queue.push(change{apply: func(j *joiner) { j.setNeighbours(nodes, in) }})
	}
}

// listNodes returns the Nodes with those of their addresses and podCIDRs that overlap
// ranges, and how many Nodes there are. Without ranges it asks nothing.
func (s *Source) listNodes(ctx context.Context, ranges []netip.Prefix) (found map[string]*cluster.Node, total int, err error) {
	found = make(map[string]*cluster.Node)
	if len(ranges) == 0 {
		return found, 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, nodesTime)
	defer cancel()
	for o := (metav1.ListOptions{Limit: nodesInPage}); ; {
		page, err := s.clients.CoreV1().Nodes().List(ctx, o)
		if err != nil {
			return nil, 0, err
		}
		total += len(page.Items)
		for i := range page.Items {
			if n := within(&page.Items[i], ranges); n != nil && n.Name != s.options.Node {
				found[n.Name] = n
			}
		}
		if o.Continue = page.Continue; o.Continue == "" {
			return found, total, nil
		}
	}
}

// within returns what of a Node overlaps ranges; nil: nothing. What is wrong with it is
// that node's to say.
func within(given *corev1.Node, ranges []netip.Prefix) *cluster.Node {
	all, _ := convert.Node(given)
	overlaps := func(p netip.Prefix) bool { return slices.ContainsFunc(ranges, p.Overlaps) }
	out := &cluster.Node{Name: all.Name}
	for _, a := range all.Addresses {
		if overlaps(netip.PrefixFrom(a, a.BitLen())) {
			out.Addresses = append(out.Addresses, a)
		}
	}
	for _, p := range all.PodCIDRs {
		if overlaps(p) {
			out.PodCIDRs = append(out.PodCIDRs, p)
		}
	}
	if len(out.Addresses)+len(out.PodCIDRs) == 0 {
		return nil
	}
	return out
}
