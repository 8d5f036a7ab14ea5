package status

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// Holders returns the Services that ask for the address of a target, those first whose
// ClusterIP it is. here says that it is an address of this machine, or a NodePort.
func Holders(t Target, all []*cluster.Service, here bool) []*cluster.Service {
	type holder struct {
		service *cluster.Service
		rank    int
	}
	var found []holder
	for _, s := range all {
		if rank := rankOf(t, s, here); rank > 0 {
			found = append(found, holder{s, rank})
		}
	}
	slices.SortFunc(found, func(a, b holder) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), compareAges(a.service, b.service), a.service.Name.Compare(b.service.Name))
	})
	var out []*cluster.Service
	for _, h := range found {
		out = append(out, h.service)
	}
	return out
}

// compareAges puts the older Service first, and those of unknown age last.
func compareAges(a, b *cluster.Service) int {
	if a.Created.IsZero() || b.Created.IsZero() {
		return cluster.CompareBool(a.Created.IsZero(), b.Created.IsZero())
	}
	return a.Created.Compare(b.Created)
}

// What a target may be to a Service, the closest first; 0 is nothing.
const (
	isClusterIP = iota + 1
	isExternal
	isNodePort
	isOtherPort // at its address
	isEndpoint
)

func rankOf(t Target, s *cluster.Service, here bool) int {
	addr := t.At.Addr()
	kind := 0
	switch {
	case slices.Contains(s.ClusterIPs, addr):
		kind = isClusterIP
	case slices.Contains(s.External.IPs, addr), slices.Contains(s.External.LoadBalancerIPs, addr):
		kind = isExternal
	}
	for _, p := range s.Ports {
		switch {
		case t.Protocol != 0 && p.Protocol != t.Protocol:
		case kind != 0 && (t.At.Port() == 0 || p.Port == t.At.Port()):
			return kind
		case here && t.At.Port() != 0 && p.NodePort == t.At.Port():
			return isNodePort
		}
	}
	if kind != 0 {
		return isOtherPort
	}
	if _, is := slices.BinarySearchFunc(s.Endpoints, addr, func(e cluster.Endpoint, a netip.Addr) int { return e.Addr.Compare(a) }); is {
		return isEndpoint
	}
	return 0
}

// maxNear bounds what may have been meant.
const maxNear = 5

// near returns the names of Services that may have been meant: of the same name in other
// namespaces, then those that differ in a few letters.
func near(meant cluster.ServiceName, all []*cluster.Service) []cluster.ServiceName {
	type candidate struct {
		name     cluster.ServiceName
		distance int
	}
	var found []candidate
	allowed := max(1, min(3, len(meant.Name)/3))
	for _, s := range all {
		n := s.Name
		distance := 0
		if n.Name != meant.Name {
			if distance = 2 * edits(n.Name, meant.Name, allowed); distance > 2*allowed {
				continue
			}
		}
		if n.Namespace != meant.Namespace {
			distance += 1 + min(edits(n.Namespace, meant.Namespace, 3), 4)
			if n.Name != meant.Name && distance > 4 {
				continue // both differ
			}
		}
		found = append(found, candidate{n, distance})
	}
	slices.SortFunc(found, func(a, b candidate) int { return cmp.Or(cmp.Compare(a.distance, b.distance), a.name.Compare(b.name)) })
	var out []cluster.ServiceName
	for _, c := range found[:min(len(found), maxNear)] {
		out = append(out, c.name)
	}
	return out
}

// nearText returns the one of some words that is nearest to one that is none of them, "" if
// none is near.
func nearText(word string, words []string) string {
	best, least := "", max(1, min(3, len(word)/3))+1
	for _, w := range words {
		if d := edits(w, word, least-1); d < least {
			best, least = w, d
		}
	}
	return best
}

// edits is how many letters are to be put in, taken out, replaced or swapped with the next to
// make one word of another (the optimal string alignment distance), or more than most.
func edits(a, b string, most int) int {
	if len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			differ := 1
			if a[i-1] == b[j-1] {
				differ = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			least = min(least, row[j])
		}
		if least > most {
			return most + 1
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

// listed puts words together: "a, b and 3 more".
func listed(words []string, most int) string {
	if n := len(words) - most; n > 0 {
		words = append(slices.Clone(words[:most]), "")
		words[most] = plural(n, "more", "more")
		return strings.Join(words[:most], ", ") + " and " + words[most]
	}
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
	return strings.Join(words, "")
}
