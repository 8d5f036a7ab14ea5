package validation

import (
	"fmt"
	"net/netip"

	"github.com/clusterip/clusterip/cluster/convert"
	corev1 "k8s.io/api/core/v1"
)

// Node returns what is wrong with a Node.
func Node(n *corev1.Node) []error {
	f := metadata(&n.ObjectMeta)
	f.podCIDRs(convert.PodCIDRs(&n.Spec))
	seen := make(map[corev1.NodeAddress]bool, len(n.Status.Addresses))
	for i, a := range n.Status.Addresses {
		if seen[a] {
			f.add("status.addresses[%d], %s %s, is given twice: remove one", i, a.Type, a.Address)
		}
		seen[a] = true
	}
	return f
}

func (f *faults) podCIDRs(given []string) {
	cidrs := make([]netip.Prefix, len(given))
	for i, text := range given {
		if cidrs[i], _ = netip.ParsePrefix(text); cidrs[i].Addr().Is4In6() {
			f.add("spec.podCIDRs[%d] %q is an IPv4 range in the form of an IPv6 one: write it as 10.42.0.0/24 is written", i, text)
		}
		f.hostBits(fmt.Sprintf("spec.podCIDRs[%d]", i), text)
	}
	if n := len(cidrs); n > 2 || n == 2 && cidrs[0].IsValid() && cidrs[1].IsValid() && cidrs[0].Addr().Is4() == cidrs[1].Addr().Is4() {
		f.add("spec.podCIDRs has more than one range of a family: keep one IPv4 and one IPv6 range")
	}
}
