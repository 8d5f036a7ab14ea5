package manifest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster/allocator"
)

// optionServiceCIDR is the option of a Corefile that says where ClusterIPs come from.
const optionServiceCIDR = "service_cidr"

// maxNamed is how many Services, or CIDRs, one Problem names.
const maxNamed = 8

// joinMisfits makes one Problem of those of Services that service_cidr does not fit, since
// one mend is for all of them, as where a folder was exported from a cluster. A single one
// stays where it is, with the mend: it may as well be a slip.
func joinMisfits(problems []Problem, a *allocator.Allocator, dir string) []Problem {
	var misfits []*allocator.Misfit
	var rest, of []Problem
	for _, p := range problems {
		if m, ok := errors.AsType[*allocator.Misfit](p.Err); ok {
			misfits, of = append(misfits, m), append(of, p)
		} else {
			rest = append(rest, p)
		}
	}
	if len(misfits) == 0 {
		return problems
	}
	var ranges []string
	for _, r := range a.Fitting(misfits) {
		ranges = append(ranges, r.String())
	}
	mend := optionServiceCIDR + " " + strings.Join(ranges[:min(len(ranges), maxNamed)], " ")
	if n := len(ranges) - maxNamed; n > 0 {
		mend += fmt.Sprintf(" and %d more CIDRs", n)
	}
	if len(of) == 1 {
		of[0].Err = fmt.Errorf("%w, or give clusterip the option %s", of[0].Err, mend)
		return append(rest, of[0])
	}
	slices.SortFunc(of, func(x, y Problem) int { return strings.Compare(x.Object, y.Object) })
	var services []string
	for _, p := range of {
		if n := len(services); n == 0 || services[n-1] != p.Object {
			services = append(services, p.Object)
		}
	}
	named := strings.Join(services[:min(len(services), maxNamed)], ", ")
	if n := len(services) - maxNamed; n > 0 {
		named += fmt.Sprintf(" and %d more", n)
	}
	err := fmt.Errorf("the ClusterIPs of %d Services are not in service_cidr, as where a folder comes from a cluster with another range: %s. Give clusterip the option %s",
		len(services), named, mend)
	return append(rest, Problem{File: dir, Err: err, Option: optionServiceCIDR})
}
