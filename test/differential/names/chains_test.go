package names

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// backZone is a zone outside, with names that lead back into the cluster.
const backZone = `$ORIGIN test.
@ 60 IN SOA ns.test. root.test. 1 60 60 60 60
@ 60 IN NS ns.test.
long 60 IN CNAME chain-9.shop.svc.cluster.local.
short 60 IN CNAME chain-19.shop.svc.cluster.local.
`

// chains creates ExternalName Services that lead to one another: 20 to a Service with a
// ClusterIP, of which the last 11 are as long a chain as kubernetes follows, loops, and
// chains that leave the cluster and come back.
func (a *writer) chains() {
	a.t.Helper()
	end := a.w.service("shop", 1)
	end.Name, end.Labels, end.Spec = "chain-20", map[string]string{"app": "web"}, corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}
	a.put(end, nil)
	alias := func(name, target string) {
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{"app": "web"}}}
		s.Spec.Type, s.Spec.ExternalName = corev1.ServiceTypeExternalName, target
		a.put(s, nil)
	}
	link := func(name string, i int) string { return fmt.Sprintf("%s-%d", name, i) }
	for i := range 20 {
		alias(link("chain", i), link("chain", i+1)+".shop.svc.cluster.local")
	}
	for _, length := range []int{1, 2, 5} {
		loop := link("loop", length)
		for i := range length {
			alias(link(loop, i), link(loop, (i+1)%length)+".shop.svc.cluster.local")
		}
	}
	alias("into-loop", "loop-5-0.shop.svc.cluster.local")
	for i := range 10 {
		alias(link("out", i), link("out", i+1)+".shop.svc.cluster.local")
	}
	alias("out-10", "www.example.com")
	alias("back-long", "long.test")
	alias("back-short", "short.test")
}
