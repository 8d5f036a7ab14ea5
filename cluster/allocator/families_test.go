package allocator

import (
	"fmt"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
)

const (
	single  = corev1.IPFamilyPolicySingleStack
	prefer  = corev1.IPFamilyPolicyPreferDualStack
	require = corev1.IPFamilyPolicyRequireDualStack
	four    = corev1.IPv4Protocol
	six     = corev1.IPv6Protocol
)

var (
	headless  = corev1.ServiceSpec{ClusterIP: "None"}
	selecting = corev1.ServiceSpec{ClusterIP: "None", Selector: map[string]string{"app": "x"}}
	v4v6      = dual
	v6v4      = []cluster.Family{cluster.IPv6, cluster.IPv4}
	v6        = v6v4[:1]
)

// familyCases are what Services ask for, and the families or the error that come of it.
var familyCases = []struct {
	spec       corev1.ServiceSpec
	policy     corev1.IPFamilyPolicy
	families   []corev1.IPFamily
	static     []string
	configured []cluster.Family
	want       string
}{
	{configured: v4, want: "[IPv4]"},
	{configured: v6v4, want: "[IPv6]"},
	{policy: single, configured: v4v6, want: "[IPv4]"},
	{policy: prefer, configured: v4, want: "[IPv4]"},
	{policy: prefer, configured: v6v4, want: "[IPv6 IPv4]"},
	{policy: prefer, families: []corev1.IPFamily{four}, configured: v6v4, want: "[IPv4 IPv6]"},
	{policy: require, configured: v4v6, want: "[IPv4 IPv6]"},
	{policy: require, configured: v4, want: "RequireDualStack, but service_cidr has IPv4 only"},
	{policy: "Both", configured: v4, want: `"Both" is none of SingleStack`},
	{families: []corev1.IPFamily{six}, configured: v4v6, want: "[IPv6]"},
	{families: []corev1.IPFamily{six}, configured: v4, want: "asks for IPv6, but service_cidr has IPv4 only"},
	{families: []corev1.IPFamily{"IPv5"}, configured: v4, want: `spec.ipFamilies[0] "IPv5" is neither`},
	{families: []corev1.IPFamily{four, four}, policy: require, configured: v4v6, want: "names IPv4 twice"},
	{families: []corev1.IPFamily{four, six}, configured: v4v6, want: "spec.ipFamilyPolicy is SingleStack"},
	{static: []string{"fd00::1"}, configured: v4v6, want: "[IPv6]"},
	{static: []string{"fd00::1"}, policy: prefer, configured: v4v6, want: "[IPv6 IPv4]"},
	{static: []string{"10.0.0.1", "fd00::1"}, policy: prefer, configured: v4v6, want: "[IPv4 IPv6]"},
	{static: []string{"10.0.0.1", "fd00::1"}, configured: v4v6, want: "spec.ipFamilyPolicy is SingleStack"},
	{static: []string{"10.0.0.1"}, families: []corev1.IPFamily{six}, configured: v4v6, want: "does not fit spec.ipFamilies [IPv6]"},
	{static: []string{"10.0.0.1"}, configured: v6, want: "asks for IPv4, but service_cidr has IPv6 only"},
	{spec: selecting, configured: v4v6, want: "[IPv4]"},
	{spec: selecting, policy: require, configured: v4v6, want: "[IPv4 IPv6]"},
	{spec: selecting, policy: require, configured: v4, want: "service_cidr has IPv4 only"},
	{spec: headless, configured: v4, want: "[IPv4 IPv6]"},
	{spec: headless, policy: single, configured: v4, want: "[IPv4]"},
	{spec: headless, families: []corev1.IPFamily{six}, configured: v4, want: "[IPv6 IPv4]"},
}

func TestFamilies(t *testing.T) {
	for i, test := range familyCases {
		t.Run(fmt.Sprintf("%02d %s", i, test.want), func(t *testing.T) {
			spec := test.spec
			spec.IPFamilies = test.families
			if test.policy != "" {
				spec.IPFamilyPolicy = &test.policy
			}
			families, err := Families(&spec, addrs(test.static...), test.configured)
			got := fmt.Sprint(families)
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
