package convert

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// One object tells as many faults as help, and has no more hostnames than it may.
func TestFaultsOfOneObject(t *testing.T) {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}}}
	for i := range 1000 {
		s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, "none")
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{Hostname: fmt.Sprintf("lb%d.example.net", i)})
	}
	s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: "192.0.2.1"})
	out, err := Service(s)
	if n := strings.Count(err.Error(), "\n") + 1; n != maxFaults+1 || !strings.Contains(err.Error(), "there are 900 more faults") {
		t.Errorf("%d faults: %.200v", n, err)
	}
	if n := len(out.External.Published); n != maxHostnames+1 || out.External.Published[maxHostnames] != "192.0.2.1" {
		t.Errorf("%d hosts are published", n)
	}
	checkError(t, errors.Join(BeyondDNS(s)...), "status.loadBalancer.ingress has 1000 hostnames, and each is looked up for every question: the first 16 get records")
}

// An address that a Pod has twice it has once.
func TestPodAddressTwice(t *testing.T) {
	out, err := Pod(&corev1.Pod{Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}, {IP: "10.0.0.1"}, {IP: "::ffff:10.0.0.1"}}}})
	if err != nil || len(out.IPs) != 2 {
		t.Errorf("%v, %v", out.IPs, err)
	}
}
