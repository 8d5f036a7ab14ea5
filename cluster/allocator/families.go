package allocator

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
)

// Families decides which IP families a Service has, the primary first, from
// spec.ipFamilyPolicy, spec.ipFamilies and the addresses it demands, as
// kube-apiserver does when the Service is created. configured are the families
// that have a service CIDR, the default first.
//
// A headless Service without selector has both families unless it says
// otherwise, since someone else provides its endpoints.
func Families(spec *corev1.ServiceSpec, static []netip.Addr, configured []cluster.Family) ([]cluster.Family, error) {
	families, err := givenFamilies(spec.IPFamilies)
	if err != nil {
		return nil, err
	}
	anyFamily := isHeadless(spec) && len(spec.Selector) == 0
	policy := corev1.IPFamilyPolicySingleStack
	switch {
	case spec.IPFamilyPolicy != nil:
		policy = *spec.IPFamilyPolicy
	case anyFamily:
		policy = corev1.IPFamilyPolicyRequireDualStack
	}
	if err := checkPolicy(policy, len(families), len(static)); err != nil {
		return nil, err
	}
	if families, err = addStaticFamilies(families, static); err != nil {
		return nil, err
	}
	if !anyFamily {
		if err := checkConfigured(policy, families, static, configured); err != nil {
			return nil, err
		}
	}
	if len(families) == 0 {
		families = []cluster.Family{configured[0]}
	}
	dual := policy != corev1.IPFamilyPolicySingleStack && (anyFamily || len(configured) == 2)
	for _, family := range cluster.Families {
		if dual && !slices.Contains(families, family) {
			families = append(families, family)
		}
	}
	return families, nil
}

func isHeadless(spec *corev1.ServiceSpec) bool {
	return spec.ClusterIP == corev1.ClusterIPNone || len(spec.ClusterIPs) == 1 && spec.ClusterIPs[0] == corev1.ClusterIPNone
}

func givenFamilies(given []corev1.IPFamily) ([]cluster.Family, error) {
	var families []cluster.Family
	for i, text := range given {
		family := map[corev1.IPFamily]cluster.Family{corev1.IPv4Protocol: cluster.IPv4, corev1.IPv6Protocol: cluster.IPv6}[text]
		if family == 0 {
			return nil, fmt.Errorf("spec.ipFamilies[%d] %q is neither IPv4 nor IPv6", i, text)
		}
		if slices.Contains(families, family) {
			return nil, fmt.Errorf("spec.ipFamilies names %s twice: name each family once", family)
		}
		families = append(families, family)
	}
	return families, nil
}

func checkPolicy(policy corev1.IPFamilyPolicy, families, static int) error {
	switch policy {
	case corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack:
		return nil
	case corev1.IPFamilyPolicySingleStack:
		if families > 1 || static > 1 {
			return fmt.Errorf("spec.ipFamilyPolicy is SingleStack (the default), but two IP families or addresses are given: write PreferDualStack or RequireDualStack")
		}
		return nil
	}
	return fmt.Errorf("spec.ipFamilyPolicy %q is none of SingleStack, PreferDualStack, RequireDualStack", policy)
}

// addStaticFamilies adds what the demanded addresses imply. They must agree with
// the families that are given, one by one.
func addStaticFamilies(families []cluster.Family, static []netip.Addr) ([]cluster.Family, error) {
	for i, addr := range static {
		family := cluster.FamilyOf(addr)
		switch {
		case i >= len(families) && !slices.Contains(families, family):
			families = append(families, family)
		case i >= len(families) || families[i] != family:
			return nil, fmt.Errorf("spec.clusterIPs[%d] %s does not fit spec.ipFamilies %v: list both in the same order", i, addr, families)
		}
	}
	return families, nil
}

func checkConfigured(policy corev1.IPFamilyPolicy, families []cluster.Family, static []netip.Addr, configured []cluster.Family) error {
	for _, family := range families {
		if !slices.Contains(configured, family) {
			demanded := slices.DeleteFunc(slices.Clone(static), func(a netip.Addr) bool { return cluster.FamilyOf(a) != family })
			return &Misfit{family, demanded, fmt.Sprintf("the Service asks for %s, but service_cidr has %s only: add an %[1]s CIDR, or change spec.ipFamilies and spec.clusterIPs", family, configured[0])}
		}
	}
	if policy == corev1.IPFamilyPolicyRequireDualStack && len(configured) < 2 {
		return &Misfit{otherThan(configured[0]), nil, fmt.Sprintf("spec.ipFamilyPolicy is RequireDualStack, but service_cidr has %s only: add a CIDR of the other family, or write PreferDualStack", configured[0])}
	}
	return nil
}

func otherThan(family cluster.Family) cluster.Family {
	if family == cluster.IPv4 {
		return cluster.IPv6
	}
	return cluster.IPv4
}
