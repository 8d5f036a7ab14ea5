package zone

import (
	"cmp"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// pointer is a PTR record of an endpoint before it is made.
type pointer struct {
	rank   int // the order of records; see Records.pointer
	target string
	pod    cluster.PodName // without Name if it is not known
}

// pointer ranks the name of an endpoint. Most clients take the first record, and check
// that its name leads back: the name that a pod goes by is its hostname in the headless
// Service that it belongs to. The specification has pointers to no others than those of
// headless Services.
func (r *Records) pointer(i int, target string) pointer {
	e := &r.usable[i]
	p := pointer{target: target, pod: cluster.PodName{Namespace: r.service.Name.Namespace, Name: e.PodName}}
	if e.Hostname == "" {
		p.rank++
	}
	if r.service.Kind != cluster.KindHeadless {
		p.rank += 2
	}
	return p
}

func (p pointer) byRank(o pointer) int {
	return cmp.Or(cmp.Compare(p.rank, o.rank), cmp.Compare(p.target, o.target))
}

func (p pointer) byTarget(o pointer) int {
	return cmp.Or(cmp.Compare(p.target, o.target), cmp.Compare(p.rank, o.rank))
}

// ranked sorts pointers; of those to one name it keeps the first.
func ranked(all []pointer) []pointer {
	slices.SortFunc(all, pointer.byTarget)
	all = slices.CompactFunc(all, func(a, b pointer) bool { return a.target == b.target })
	slices.SortFunc(all, pointer.byRank)
	return all
}

// firstOfEachPod keeps the first pointer to each pod. Endpoints of which no pod is known
// count as one, and not at all if a pod is known beside them.
func firstOfEachPod(all []pointer) []pointer {
	slices.SortFunc(all, pointer.byRank)
	known := slices.ContainsFunc(all, func(p pointer) bool { return p.pod.Name != "" })
	seen := make(map[cluster.PodName]bool)
	return slices.DeleteFunc(all, func(p pointer) bool {
		if p.pod.Name == "" {
			p.pod.Namespace = ""
		}
		again := seen[p.pod] || known && p.pod.Name == ""
		seen[p.pod] = true
		return again
	})
}
