package kubernetes

import (
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
)

// Objects that come, change and go, one after the other.
func TestFollows(t *testing.T) { eachEtcd(t, testFollows) }

func testFollows(t *testing.T, a *apiServer, _ kubetest.Etcd) {
	a.namespace("shop")
	a.create(service("before", "10.43.0.5"))
	p := start(t, "kubeconfig "+a.Kubeconfig())
	p.answers("before.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
	p.answers("5.0.43.10.in-addr.arpa", "PTR", "NOERROR before.shop.svc.cluster.local.")
	p.answers("web.shop.svc.cluster.local", "A", "NXDOMAIN")

	followType(a, p)
	followSlices(a, p)
	followBalancer(a, p)
	measureChanges(a, p)
}

// A Service changes its type.
func followType(a *apiServer, p *program) {
	a.create(service("web", "10.43.0.7"))
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.7")
	a.put(slice("web-1", "web", "10.42.0.1"))
	p.answers("10-42-0-1.web.shop.svc.cluster.local", "A", "NOERROR 10.42.0.1")
	a.delete("web")
	p.answers("web.shop.svc.cluster.local", "A", "NXDOMAIN")
	a.create(service("web", "None"))
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.42.0.1")
	a.change("web", func(s *corev1.Service) {
		s.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "before.shop.svc.cluster.local"}
	})
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR before.shop.svc.cluster.local. 10.43.0.5")
}

// EndpointSlices come before their Service, and move.
func followSlices(a *apiServer, p *program) {
	a.put(slice("db-1", "db", "10.42.0.2"))
	a.put(slice("db-2", "db", "10.42.0.3"))
	a.create(service("db", "None"))
	p.answers("_http._tcp.db.shop.svc.cluster.local", "SRV",
		"NOERROR 0 50 8080 10-42-0-2.db.shop.svc.cluster.local. 0 50 8080 10-42-0-3.db.shop.svc.cluster.local.")
	a.create(service("cache", "None"))
	p.answers("cache.shop.svc.cluster.local", "A", "NXDOMAIN")
	a.put(slice("db-2", "cache", "10.42.0.3"))
	p.answers("cache.shop.svc.cluster.local", "A", "NOERROR 10.42.0.3")
	p.answers("db.shop.svc.cluster.local", "A", "NOERROR 10.42.0.2")
}

// A load balancer writes an address that is of use to nobody else.
func followBalancer(a *apiServer, p *program) {
	balanced := service("balanced", "10.43.0.9")
	balanced.Spec.Type = corev1.ServiceTypeLoadBalancer
	a.create(balanced)
	a.balance("balanced", "127.0.0.1")
	p.logs("Service shop/balanced: status.loadBalancer.ingress[0].ip 127.0.0.1 is unspecified, loopback")
	a.change("balanced", func(s *corev1.Service) { s.Spec.Ports[0].Name = "web" })
	p.answers("_web._tcp.balanced.shop.svc.cluster.local", "SRV", "NOERROR 0 100 80 balanced.shop.svc.cluster.local.")
}

// How long it takes is measured from when the pod changed, for the headless db of
// followSlices and for a Service with a ClusterIP.
func measureChanges(a *apiServer, p *program) {
	timed := slice("db-1", "db", "10.42.0.4")
	timed.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Format(time.RFC3339Nano)}
	a.put(timed)
	p.answers("db.shop.svc.cluster.local", "A", "NOERROR 10.42.0.4")
	timed = slice("plain-1", "plain", "10.42.0.5")
	timed.Annotations = map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Format(time.RFC3339Nano)}
	a.create(service("plain", "10.43.0.8"))
	a.put(timed)
	p.answers("10-42-0-5.plain.shop.svc.cluster.local", "A", "NOERROR 10.42.0.5")
	for _, metric := range []string{
		`coredns_clusterip_dns_programming_duration_seconds_count{service_kind="headless_with_selector"} 1`,
		`coredns_clusterip_dns_programming_duration_seconds_count{service_kind="cluster_ip"} 1`,
		`coredns_kubernetes_rest_client_requests_total{code="200",`,
	} {
		if text := p.exported(); !strings.Contains(text, metric) {
			a.t.Errorf("the metrics lack %q:\n%s", metric, text)
		}
	}
}
