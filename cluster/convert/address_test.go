package convert

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// What stands for many, or is on every machine, is no frontend, however it is written;
// what only looks odd is one.
func TestAddressesOfMany(t *testing.T) {
	for _, text := range []string{
		"255.255.255.255", "::ffff:255.255.255.255", "::ffff:ffff:ffff", "0:0:0:0:0:FFFF:255.255.255.255", "0.0.0.0", "::", "::ffff:0.0.0.0",
		"127.0.0.1", "127.255.255.255", "::1", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1", "224.0.0.1", "239.1.1.1", "::ffff:239.1.1.1", "ff02::1", "ff0e::1",
	} {
		s := service(corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ExternalIPs: []string{text}, Ports: onePort})
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: text}}
		got, err := Service(s)
		if e := got.External; len(e.IPs)+len(e.LoadBalancerIPs) > 0 || got.Kind == 0 || strings.Count(fmt.Sprint(err), "give an address of its own") != 2 {
			t.Errorf("%s: frontends %v and %v, %v", text, e.IPs, e.LoadBalancerIPs, err)
		}
		if addr, err := EndpointAddr(text); addr.IsValid() || err == nil {
			t.Errorf("%s is an endpoint", text)
		}
		s = service(corev1.ServiceSpec{ClusterIP: text, Ports: onePort})
		linkLocal := strings.HasPrefix(text, "169.254.") || strings.HasPrefix(text, "fe80:")
		if got, err := Service(s); (err == nil) != linkLocal || len(got.ClusterIPs) > 0 != linkLocal {
			t.Errorf("%s as ClusterIP: %v, %v", text, got.ClusterIPs, err)
		}
	}
	for _, text := range []string{"240.0.0.1", "255.255.255.254", "0.0.0.1", "100.64.0.1", "192.0.2.255", "64:ff9b::c000:201", "::102:304", "fec0::1", "fd00::1"} {
		s := service(corev1.ServiceSpec{ExternalIPs: []string{text}, Ports: onePort})
		if got, err := Service(s); err != nil || len(got.External.IPs) != 1 {
			t.Errorf("%s: %v, %v", text, got.External.IPs, err)
		}
	}
}
