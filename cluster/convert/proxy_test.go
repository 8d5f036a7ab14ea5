package convert

import (
	"maps"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// The label counts, not its value.
func TestProxy(t *testing.T) {
	const named = "service.kubernetes.io/service-proxy-name"
	for _, c := range []struct {
		labels    map[string]string
		want      cluster.Proxy
		namesOnly bool
	}{
		{map[string]string{"app": "echo"}, cluster.Proxy{}, false},
		{map[string]string{named: "other"}, cluster.NamedProxy("other"), false},
		{map[string]string{named: ""}, cluster.NamedProxy(""), false},
		{map[string]string{corev1.IsHeadlessService: ""}, cluster.NoProxy(), true},
		{map[string]string{corev1.IsHeadlessService: "false", named: "other"}, cluster.NoProxy(), true},
	} {
		s := service(corev1.ServiceSpec{Ports: onePort})
		s.Labels = c.labels
		if got, err := Service(s); err != nil || got.Proxy != c.want {
			t.Errorf("Service with labels %v: %+v, %v; want %+v", c.labels, got.Proxy, err, c.want)
		}
		es := slice("IPv4", discoveryv1.Endpoint{Addresses: []string{"192.0.2.1"}})
		maps.Copy(es.Labels, c.labels)
		if _, got, err := EndpointSlice(es); err != nil || got[0].NamesOnly() != c.namesOnly {
			t.Errorf("EndpointSlice with labels %v: names only %t, %v", c.labels, got[0].NamesOnly(), err)
		}
		older := &corev1.Endpoints{ObjectMeta: meta("echo"), Subsets: []corev1.EndpointSubset{{Addresses: []corev1.EndpointAddress{{IP: "192.0.2.1"}}}}}
		older.Labels = c.labels
		if _, got, err := Endpoints(older); err != nil || got[0].NamesOnly() != c.namesOnly {
			t.Errorf("Endpoints with labels %v: names only %t, %v", c.labels, got[0].NamesOnly(), err)
		}
	}
}
