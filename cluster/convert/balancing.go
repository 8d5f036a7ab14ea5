package convert

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The annotations that say how connections are shared out among endpoints: on a Service
// how they take turns and what some of them weigh, on an EndpointSlice what all of its
// endpoints do.
const (
	ourAnnotations    = "clusterip.io/" // all begin with that
	policyAnnotation  = "clusterip.io/load-balancing"
	weightsAnnotation = "clusterip.io/weights"
	weightAnnotation  = "clusterip.io/weight"
)

// zonePrefix begins what stands for a zone in weightsAnnotation: an address is none.
const zonePrefix = "zone/"

// maxWeights of one Service are kept: each endpoint is looked up among them.
const maxWeights = 256

// Balancing are the faults in what a Service says of load balancing. It is served as if it
// did not say that: whoever mistypes a weight is not to lose a Service.
func Balancing(s *corev1.Service) []error {
	_, policyErr := policy(s.Annotations)
	_, weightErrs := weights(s.Annotations)
	if policyErr != nil {
		weightErrs = append([]error{policyErr}, weightErrs...)
	}
	return bounded(append(weightErrs, unknownAnnotations("Service", s.Annotations, policyAnnotation, weightsAnnotation)...))
}

// Misplaced are the annotations of ours on an object whose kind has none.
func Misplaced(kind string, annotations map[string]string) []error {
	return bounded(unknownAnnotations(kind, annotations))
}

// unknownAnnotations says which annotations of ours an object of a kind has that it may not.
func unknownAnnotations(kind string, annotations map[string]string, known ...string) (errs []error) {
	there := strings.Join(known, " and ")
	if there == "" {
		there = fmt.Sprintf("none, but %s and %s for Service and %s for EndpointSlice", policyAnnotation, weightsAnnotation, weightAnnotation)
	}
	for key, value := range annotations {
		if strings.HasPrefix(key, ourAnnotations) && !slices.Contains(known, key) {
			errs = append(errs, fmt.Errorf("annotation %s %q is unknown: for %s there is %s; it is ignored", key, value, kind, there))
		}
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errs
}

func policy(annotations map[string]string) (*cluster.Policy, error) {
	text, given := annotations[policyAnnotation]
	if !given {
		return nil, nil
	}
	p, err := cluster.ParsePolicy(strings.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("annotation %s %w; it is ignored", policyAnnotation, err)
	}
	return &p, nil
}

// weights reads "10.42.1.7=3, 10.42.2.0/24=2, zone/east=0". On faults the whole annotation
// counts for nothing: the rest of it alone would share out in a way that nobody has asked for.
func weights(annotations map[string]string) ([]cluster.WeightRule, []error) {
	text, given := annotations[weightsAnnotation]
	if !given {
		return nil, nil
	}
	if n := strings.Count(text, ",") + 1; n > maxWeights {
		return nil, []error{fmt.Errorf("annotation %s has %d entries, and may have %d: give ranges or zones in place of addresses; it is ignored", weightsAnnotation, n, maxWeights)}
	}
	var rules []cluster.WeightRule
	var errs []error
	for entry := range strings.SplitSeq(text, ",") {
		rule, err := weightRule(strings.TrimSpace(entry))
		if err != nil {
			errs = append(errs, fmt.Errorf("annotation %s: %w; the whole annotation is ignored", weightsAnnotation, err))
		}
		rules = append(rules, rule)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return rules, nil
}

func weightRule(entry string) (rule cluster.WeightRule, err error) {
	whose, number, both := strings.Cut(entry, "=")
	if !both {
		return rule, fmt.Errorf("%q is not of the form 10.42.1.7=3, 10.42.2.0/24=3 or %seast=3", entry, zonePrefix)
	}
	whose = strings.TrimSpace(whose)
	if rule.Weight, err = readWeight(number); err != nil {
		return rule, fmt.Errorf("%q: %w", entry, err)
	}
	if zone, is := strings.CutPrefix(whose, zonePrefix); is {
		if msgs := validation.IsValidLabelValue(zone); zone == "" || len(msgs) > 0 {
			return rule, fmt.Errorf("%q: %q is no name of a zone: give the value of the label topology.kubernetes.io/zone", entry, zone)
		}
		rule.Zone = strings.Clone(zone) // not in the memory of the whole annotation
		return rule, nil
	}
	if addr, errAddr := netip.ParseAddr(whose); errAddr == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		rule.Range = netip.PrefixFrom(addr, addr.BitLen())
		return rule, nil
	}
	if rule.Range, err = netip.ParsePrefix(whose); err != nil || rule.Range.Addr().Is4In6() {
		return rule, fmt.Errorf("%q: %q is no address, no range such as 10.42.2.0/24, and no zone such as %seast", entry, whose, zonePrefix)
	}
	rule.Range = rule.Range.Masked()
	return rule, nil
}

// sliceWeight returns that of all endpoints of an object of a kind, and what is wrong with its
// annotations.
func sliceWeight(kind string, annotations map[string]string) (*cluster.Weight, []error) {
	errs := bounded(unknownAnnotations(kind, annotations, weightAnnotation))
	text, given := annotations[weightAnnotation]
	if !given {
		return nil, errs
	}
	w, err := readWeight(text)
	if err != nil {
		return nil, append(errs, fmt.Errorf("annotation %s: %w; it is ignored", weightAnnotation, err))
	}
	return &w, errs
}

func readWeight(text string) (cluster.Weight, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a weight: give a whole number from 0 to 65535", text)
	}
	return cluster.Weight(n), nil
}
