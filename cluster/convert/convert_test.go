package convert

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func diff(want, got any) string {
	return cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

// checkError compares each line of an error: it lists every fault of an object.
func checkError(t *testing.T, err error, want ...string) {
	t.Helper()
	var got []string
	if err != nil {
		got = strings.Split(err.Error(), "\n")
	}
	if len(got) != len(want) {
		t.Errorf("%d faults, want %d:\n%v", len(got), len(want), err)
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("fault %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "testing", Name: name}
}

func service(spec corev1.ServiceSpec) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta("echo"), Spec: spec}
}

var onePort = []corev1.ServicePort{{Port: 80}}

func TestService(t *testing.T) {
	name := cluster.ServiceName{Namespace: "testing", Name: "echo"}
	ports := []cluster.Port{{Protocol: cluster.TCP, Port: 80}}
	for _, test := range []struct {
		name string
		spec corev1.ServiceSpec
		want cluster.Service
	}{
		{"no address yet", corev1.ServiceSpec{Ports: onePort},
			cluster.Service{Name: name, Kind: cluster.KindClusterIP, Ports: ports}},
		{"ClusterIP", corev1.ServiceSpec{Type: "ClusterIP", ClusterIP: "10.43.0.1", Ports: onePort},
			cluster.Service{Name: name, Kind: cluster.KindClusterIP, ClusterIPs: addrs("10.43.0.1"), Ports: ports}},
		{"NodePort and LoadBalancer have ClusterIPs too", corev1.ServiceSpec{Type: "LoadBalancer", ClusterIP: "10.43.0.1", ClusterIPs: []string{"10.43.0.1", "fd00::1"}, Ports: onePort},
			cluster.Service{Name: name, Kind: cluster.KindClusterIP, ClusterIPs: addrs("10.43.0.1", "fd00::1"), Ports: ports}},
		{"headless", corev1.ServiceSpec{ClusterIP: "None", ClusterIPs: []string{"None"}},
			cluster.Service{Name: name, Kind: cluster.KindHeadless, Ports: []cluster.Port{}}},
		{"ExternalName", corev1.ServiceSpec{Type: "ExternalName", ExternalName: "WWW.example.com."},
			cluster.Service{Name: name, Kind: cluster.KindExternalName, ExternalName: "WWW.example.com"}},
		{"internalTrafficPolicy", corev1.ServiceSpec{InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicyLocal), Ports: onePort},
			cluster.Service{Name: name, Kind: cluster.KindClusterIP, InternalLocal: true, Ports: ports}},
		{"one number for two protocols, in the given order", corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "u", Protocol: "UDP", Port: 53}, {Name: "t", Port: 53}}},
			cluster.Service{Name: name, Kind: cluster.KindClusterIP, Ports: []cluster.Port{{Name: "u", Protocol: cluster.UDP, Port: 53}, {Name: "t", Protocol: cluster.TCP, Port: 53}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Service(service(test.spec))
			checkError(t, err)
			if d := diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestServiceFaults(t *testing.T) {
	for _, test := range []struct {
		spec corev1.ServiceSpec
		want []string
	}{
		{corev1.ServiceSpec{}, []string{"spec.ports is empty"}},
		{corev1.ServiceSpec{ClusterIP: "none", Ports: onePort}, []string{`spec.clusterIP "none": for a headless Service write None`}},
		{corev1.ServiceSpec{ClusterIPs: []string{"None", "10.0.0.1"}, Ports: onePort}, []string{`spec.clusterIPs "None": for a headless Service write None, with a capital N and alone`}},
		{corev1.ServiceSpec{ClusterIP: "10.0.0", Ports: onePort}, []string{`spec.clusterIP "10.0.0" is not an IP address`}},
		{corev1.ServiceSpec{ClusterIP: "::ffff:10.0.0.1", Ports: onePort}, []string{`spec.clusterIP "::ffff:10.0.0.1" is not how an IP address is written: write 10.0.0.1`}},
		{corev1.ServiceSpec{ClusterIP: "fe80::1%eth0", Ports: onePort}, []string{"is not an IP address"}},
		{corev1.ServiceSpec{ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.2"}, Ports: onePort}, []string{`spec.clusterIP "10.0.0.1" and spec.clusterIPs[0] "10.0.0.2" differ`}},
		{corev1.ServiceSpec{ClusterIPs: []string{"10.0.0.1", "10.0.0.2"}, Ports: onePort}, []string{"must be one IPv4 and one IPv6"}},
		{corev1.ServiceSpec{ClusterIPs: []string{"10.0.0.1", "fd00::1", "fd00::2"}, Ports: onePort}, []string{"has 3 addresses"}},
		{corev1.ServiceSpec{Type: "clusterip", Ports: onePort}, []string{`spec.type "clusterip" is none of`}},
		{corev1.ServiceSpec{Type: "ExternalName"}, []string{"spec.externalName is missing: give the name"}},
		{corev1.ServiceSpec{Type: "ExternalName", ExternalName: "a b"}, []string{`spec.externalName "a b"`}},
		{corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 0}}}, []string{"spec.ports[0].port 0 is outside 1-65535"}},
		{corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, Name: "a.b"}}}, []string{`spec.ports[0].name "a.b" is no DNS label`}},
		{corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, Protocol: "tcp"}}}, []string{`spec.ports[0].protocol "tcp" is none of`}},
		{corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80, Name: "a"}, {Port: 81, Name: "a"}, {Port: 80, Name: "b"}, {Port: 82}}}, []string{
			`spec.ports[1].name "a" is given twice`, "spec.ports[2]: TCP port 80 is given twice", "spec.ports[3] has no name"}},
	} {
		t.Run(test.want[0], func(t *testing.T) {
			_, err := Service(service(test.spec))
			checkError(t, err, test.want...)
		})
	}
	t.Run("names", func(t *testing.T) {
		_, err := Service(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "name.space", Name: strings.Repeat("x", 64)}, Spec: corev1.ServiceSpec{Ports: onePort}})
		checkError(t, err, "metadata.name", `metadata.namespace "name.space" is no DNS label`)
	})
}

// What is at fault is left out, and the Service is there for the rest of it.
func TestServiceWithoutFaults(t *testing.T) {
	at := func(ips ...string) (all []corev1.LoadBalancerIngress) {
		for _, ip := range ips {
			all = append(all, corev1.LoadBalancerIngress{IP: ip})
		}
		return all
	}
	ports := []cluster.Port{{Protocol: cluster.TCP, Port: 80}}
	for _, test := range []struct {
		name    string
		spec    corev1.ServiceSpec
		ingress []corev1.LoadBalancerIngress
		want    cluster.Service
		faults  []string
	}{
		{"load balancer", corev1.ServiceSpec{Type: "LoadBalancer", Ports: onePort}, at("127.0.0.1", "192.0.2.2", "0.0.0.0", "169.254.1.1", "fe80::1", "::ffff:192.0.2.3"),
			cluster.Service{Kind: cluster.KindClusterIP, Ports: ports, External: cluster.External{
				LoadBalancerIPs: addrs("192.0.2.2", "192.0.2.3"),
				Published:       []string{"127.0.0.1", "192.0.2.2", "0.0.0.0", "169.254.1.1", "fe80::1", "192.0.2.3"},
			}},
			[]string{"ingress[0].ip 127.0.0.1 is unspecified, loopback", "ingress[2]", "ingress[3]", "ingress[4]", "ingress[5]"}},
		{"source ranges", corev1.ServiceSpec{Type: "LoadBalancer", Ports: onePort, LoadBalancerSourceRanges: []string{"010.1.0.0/8", " 192.0.2.0/24", "nowhere"}}, at("192.0.2.2", "2001:db8::2"),
			cluster.Service{Kind: cluster.KindClusterIP, Ports: ports, External: cluster.External{
				LoadBalancerIPs: addrs("192.0.2.2"), // for the other family there would be no range, which is everybody
				Published:       []string{"192.0.2.2", "2001:db8::2"},
				SourceRanges:    []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.0/24")},
			}},
			[]string{`spec.loadBalancerSourceRanges[0] "010.1.0.0/8" is not how a CIDR is written: write 10.0.0.0/8`, `spec.loadBalancerSourceRanges[2] "nowhere" is not a CIDR`}},
		{"no readable source range", corev1.ServiceSpec{Type: "LoadBalancer", Ports: onePort, LoadBalancerSourceRanges: []string{"nowhere"}}, at("192.0.2.2"),
			cluster.Service{Kind: cluster.KindClusterIP, Ports: ports, External: cluster.External{LoadBalancerIPs: []netip.Addr{}, Published: []string{"192.0.2.2"}}},
			[]string{`spec.loadBalancerSourceRanges[0] "nowhere" is not a CIDR`}},
		{"externalIPs", corev1.ServiceSpec{ExternalIPs: []string{"::ffff:192.0.2.1", "192.0.2.2", "127.0.0.1"}, Ports: onePort}, nil,
			cluster.Service{Kind: cluster.KindClusterIP, Ports: ports, External: cluster.External{IPs: addrs("192.0.2.1", "192.0.2.2"), Published: []string{"192.0.2.1", "192.0.2.2", "127.0.0.1"}}},
			[]string{`spec.externalIPs[0] "::ffff:192.0.2.1" is not how an IP address is written: write 192.0.2.1`, "spec.externalIPs[2] 127.0.0.1 is unspecified, loopback"}},
		{"an old spelling", corev1.ServiceSpec{ClusterIP: "010.43.0.5", ClusterIPs: []string{"010.43.0.5"}, Ports: onePort}, nil,
			cluster.Service{Kind: cluster.KindClusterIP, ClusterIPs: addrs("10.43.0.5"), Ports: ports},
			[]string{`spec.clusterIPs "010.43.0.5" is not how an IP address is written: write 10.43.0.5`}},
		{"policies", corev1.ServiceSpec{ExternalTrafficPolicy: "local", InternalTrafficPolicy: new(corev1.ServiceInternalTrafficPolicy("local")), SessionAffinity: "Cookie", Ports: onePort}, nil,
			cluster.Service{Kind: cluster.KindClusterIP, Ports: ports},
			[]string{"spec.internalTrafficPolicy", "spec.sessionAffinity", "spec.externalTrafficPolicy"}},
		{"ports", corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "a", Port: 80}, {Name: "a", Port: 81}, {Name: "b", Port: 80}, {Name: "c", Port: 83, Protocol: "UDP"}}}, nil,
			cluster.Service{Kind: cluster.KindClusterIP, Ports: []cluster.Port{{Name: "a", Protocol: cluster.TCP, Port: 80}, {Name: "c", Protocol: cluster.UDP, Port: 83}}},
			[]string{"spec.ports[1].name", "spec.ports[2]: TCP port 80 is given twice"}},
		{"an address that is none", corev1.ServiceSpec{ClusterIP: "10.0.0", Ports: onePort}, nil,
			cluster.Service{Ports: ports}, []string{"spec.clusterIP"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			in := service(test.spec)
			in.Status.LoadBalancer.Ingress = test.ingress
			got, err := Service(in)
			checkError(t, err, test.faults...)
			test.want.Name = cluster.ServiceName{Namespace: "testing", Name: "echo"}
			if d := diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// The API server takes labels that are too long for DNS: the Service counts.
func TestBeyondDNS(t *testing.T) {
	long := strings.Repeat("a", 64) + ".example.com"
	alias := service(corev1.ServiceSpec{Type: "ExternalName", ExternalName: long})
	if got, err := Service(alias); err != nil || got.ExternalName != long {
		t.Errorf("the Service is %+v, error %v", got, err)
	}
	balanced := service(corev1.ServiceSpec{Type: "LoadBalancer", ClusterIP: "10.43.0.1", Ports: onePort})
	balanced.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: long[1:]}, {Hostname: long}, {IP: "192.0.2.1"}}
	for _, test := range []struct {
		service *corev1.Service
		want    []string
	}{
		{alias, []string{"spec.externalName \"" + long + "\" has a part of 64 characters"}},
		{service(corev1.ServiceSpec{Type: "ExternalName", ExternalName: long[1:]}), nil},
		{service(corev1.ServiceSpec{Type: "ClusterIP", ExternalName: long, Ports: onePort}), nil},
		{balanced, []string{"status.loadBalancer.ingress[1].hostname \"" + long + "\" has a part of 64 characters"}},
	} {
		checkError(t, errors.Join(BeyondDNS(test.service)...), test.want...)
	}
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func slice(addressType discoveryv1.AddressType, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta("echo-x"), AddressType: addressType, Endpoints: endpoints}
	s.Labels = map[string]string{discoveryv1.LabelServiceName: "echo"}
	s.Ports = []discoveryv1.EndpointPort{{Name: new("b"), Port: new(int32(81))}, {Name: new("a"), Port: new(int32(80)), Protocol: new(corev1.ProtocolUDP)}}
	return s
}

func TestEndpointSlice(t *testing.T) {
	ports := []cluster.EndpointPort{{Name: "a", Protocol: cluster.UDP, Port: 80}, {Name: "b", Protocol: cluster.TCP, Port: 81}}
	yes, no := new(true), new(false)
	for _, test := range []struct {
		name string
		in   discoveryv1.Endpoint
		want cluster.Endpoint
	}{
		{"unknown conditions mean ready", discoveryv1.Endpoint{}, cluster.Endpoint{Ready: true, Serving: true}},
		{"serving follows ready", discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: no}}, cluster.Endpoint{}},
		{"terminating but serving", discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: no, Serving: yes, Terminating: yes}},
			cluster.Endpoint{Serving: true, Terminating: true}},
		{"published though not ready", discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: yes, Serving: no}}, cluster.Endpoint{Ready: true}},
		{"names", discoveryv1.Endpoint{Hostname: new("host"), NodeName: new("node"), Zone: new("zone"), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "pod"}},
			cluster.Endpoint{Hostname: "host", Topology: &cluster.Topology{NodeName: "node", Zone: "zone"}, PodName: "pod", Ready: true, Serving: true}},
		{"a target that is no Pod", discoveryv1.Endpoint{TargetRef: &corev1.ObjectReference{Kind: "VirtualMachineInstance", Name: "vm"}}, cluster.Endpoint{PodName: "vm", Ready: true, Serving: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.in.Addresses = []string{"192.0.2.1"}
			test.want.Addr, test.want.Slice = netip.MustParseAddr("192.0.2.1"), &cluster.EndpointSlice{Ports: ports}
			owner, got, err := EndpointSlice(slice("IPv4", test.in))
			checkError(t, err)
			if want := (cluster.ServiceName{Namespace: "testing", Name: "echo"}); owner != want {
				t.Errorf("owner %s, want %s", owner, want)
			}
			if d := diff([]cluster.Endpoint{test.want}, got); d != "" {
				t.Error(d)
			}
			if cap(got[0].Ports()) != len(got[0].Ports()) {
				t.Error("the ports have spare capacity")
			}
		})
	}
}

func TestEndpointSliceFaults(t *testing.T) {
	at := func(addresses ...string) discoveryv1.Endpoint { return discoveryv1.Endpoint{Addresses: addresses} }
	unlabelled := slice("IPv4", at("192.0.2.1"))
	unlabelled.Labels = nil
	badPorts := slice("IPv4", at("192.0.2.1"))
	badPorts.Ports = []discoveryv1.EndpointPort{{}, {Port: new(int32(70000))}, {Port: new(int32(80)), Protocol: new(corev1.Protocol("IP"))}, {Port: new(int32(80))}}
	badHost := at("192.0.2.1")
	badHost.Hostname = new("a.b")
	for _, test := range []struct {
		name  string
		in    *discoveryv1.EndpointSlice
		sound int // endpoints that come out all the same
		want  []string
	}{
		{"no label", unlabelled, 0, []string{"label kubernetes.io/service-name is missing"}},
		{"FQDN", slice("FQDN", at("example.com")), 0, []string{"addressType FQDN is not supported"}},
		{"addresses", slice("IPv4", at("192.0.2.1"), at("fd00::1"), at("192.0.2", "192.0.2.2")), 2,
			[]string{`endpoints[1]: address "fd00::1" does not fit addressType IPv4`, `endpoints[2]: address "192.0.2" is not an IP address`}},
		{"ports", badPorts, 1, []string{"ports[1].port 70000 is outside", `ports[2].protocol "IP"`}},
		{"hostname", slice("IPv4", badHost), 1, []string{`endpoints[0]: hostname "a.b" is no DNS label`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, got, err := EndpointSlice(test.in)
			checkError(t, err, test.want...)
			if len(got) != test.sound {
				t.Errorf("%d endpoints come out, want %d", len(got), test.sound)
			}
			for _, e := range got {
				if e.Hostname != "" {
					t.Errorf("the hostname %q comes out", e.Hostname)
				}
			}
		})
	}
}

func TestEndpointAddr(t *testing.T) {
	for text, ok := range map[string]bool{
		"192.0.2.1": true, "2001:db8::1": true, "fd00::1": true, "10.0.0.1": true,
		"": false, "192.0.2": false, "host": false, "::ffff:192.0.2.1": false, "fe80::1%eth0": false,
		"0.0.0.0": false, "::": false, "127.0.0.1": false, "::1": false, "169.254.1.1": false, "fe80::1": false,
		"224.0.0.1": false, "ff02::1": false, "255.255.255.255": false,
	} {
		if _, err := EndpointAddr(text); (err == nil) != ok {
			t.Errorf("EndpointAddr(%q): %v", text, err)
		}
	}
}

// What Kubernetes once took is read as it reads it, and is an error.
func TestOldSpelling(t *testing.T) {
	for text, want := range map[string]string{
		"010.01.1.010": "10.1.1.10", "::ffff:10.0.0.1": "10.0.0.1", "::ffff:0a00:1": "10.0.0.1",
		"": "", "10.0.0": "", "0x0a.0.0.1": "", "10.0.0.256": "", "fe80::1%eth0": "", "10.0.0.1 ": "",
	} {
		ip, err := readAddr(text)
		if err == nil || ip.IsValid() != (want != "") || ip.IsValid() && ip.String() != want {
			t.Errorf("readAddr(%q) is %v, error %v; want %q and an error", text, ip, err, want)
		}
	}
	for text, want := range map[string]string{
		"010.1.0.0/8": "10.0.0.0/8", "10.0.0.0/08": "10.0.0.0/8", "::ffff:10.0.0.0/104": "", "10.0.0.0": "", "10.0.0.0/33": "",
	} {
		r, err := readPrefix(text)
		if err == nil || r.IsValid() != (want != "") || r.IsValid() && r.String() != want {
			t.Errorf("readPrefix(%q) is %v, error %v; want %q and an error", text, r, err, want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	in := &corev1.Endpoints{ObjectMeta: meta("echo"), Subsets: []corev1.EndpointSubset{{
		Addresses:         []corev1.EndpointAddress{{IP: "192.0.2.1", Hostname: "host", NodeName: new("node"), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "pod"}}, {IP: "127.0.0.1"}},
		NotReadyAddresses: []corev1.EndpointAddress{{IP: "192.0.2.2"}},
		Ports:             []corev1.EndpointPort{{Name: "web", Port: 80}},
	}}}
	owner, got, err := Endpoints(in)
	checkError(t, err, "subsets[0].addresses[1]: address 127.0.0.1 cannot be an endpoint")
	if owner.String() != "testing/echo" {
		t.Errorf("owner %s", owner)
	}
	subset := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "web", Protocol: cluster.TCP, Port: 80}}}
	want := []cluster.Endpoint{
		{Addr: netip.MustParseAddr("192.0.2.1"), Hostname: "host", PodName: "pod", Slice: subset, Topology: &cluster.Topology{NodeName: "node"}, Ready: true, Serving: true},
		{Addr: netip.MustParseAddr("192.0.2.2"), Slice: subset},
	}
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPod(t *testing.T) {
	for _, test := range []struct {
		name    string
		status  corev1.PodStatus
		want    []netip.Addr
		wantErr string
	}{
		{"no address yet", corev1.PodStatus{Phase: corev1.PodPending}, nil, ""},
		{"both families", corev1.PodStatus{PodIP: "10.42.0.1", PodIPs: []corev1.PodIP{{IP: "10.42.0.1"}, {IP: "fd00::1"}}}, addrs("10.42.0.1", "fd00::1"), ""},
		{"podIP only", corev1.PodStatus{PodIP: "10.42.0.1"}, addrs("10.42.0.1"), ""},
		{"ended", corev1.PodStatus{Phase: corev1.PodSucceeded, PodIP: "10.42.0.1"}, nil, ""},
		{"failed", corev1.PodStatus{Phase: corev1.PodFailed, PodIP: "10.42.0.1"}, nil, ""},
		{"no IP address", corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.42.0.1"}, {IP: "ten"}}}, addrs("10.42.0.1"), `status.podIPs[1] "ten" is not an IP address`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := Pod(&corev1.Pod{ObjectMeta: meta("pod"), Status: test.status})
			if test.wantErr != "" {
				checkError(t, err, test.wantErr)
			} else {
				checkError(t, err)
			}
			if d := diff(&cluster.Pod{Name: cluster.PodName{Namespace: "testing", Name: "pod"}, IPs: test.want}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestPodLabels(t *testing.T) {
	in := &corev1.Pod{ObjectMeta: meta("pod")}
	in.Labels = map[string]string{"app": "web"}
	got, err := Pod(in)
	checkError(t, err)
	if got.Labels["app"] != "web" {
		t.Errorf("labels %v", got.Labels)
	}
}

// DNS tells clients outside of every ingress, also of those that packets do not
// come from.
func TestPublished(t *testing.T) {
	proxy := corev1.LoadBalancerIPModeProxy
	in := &corev1.Service{ObjectMeta: meta("web")}
	in.Spec.Type = corev1.ServiceTypeLoadBalancer
	in.Spec.Ports = []corev1.ServicePort{{Port: 80}}
	in.Spec.ExternalIPs = []string{"192.0.2.1"}
	in.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{
		{IP: "192.0.2.2"}, {IP: "2001:DB8::3", IPMode: &proxy}, {Hostname: "lb.example.net."},
	}
	got, err := Service(in)
	checkError(t, err)
	if d := diff([]string{"192.0.2.1", "192.0.2.2", "2001:db8::3", "lb.example.net"}, got.External.Published); d != "" {
		t.Error(d)
	}
	in.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "lb_example"}}
	_, err = Service(in)
	checkError(t, err, `status.loadBalancer.ingress[0].hostname "lb_example"`)
}

func TestNode(t *testing.T) {
	in := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node", Labels: map[string]string{corev1.LabelTopologyZone: "zone"}}}
	in.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "node"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"}, {Type: corev1.NodeExternalIP, Address: "2001:db8::1"}}
	in.Spec.PodCIDR = "10.42.0.0/24"
	want := &cluster.Node{Name: "node", Zone: "zone", Addresses: addrs("192.0.2.1", "2001:db8::1"), PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.42.0.0/24")}}
	got, err := Node(in)
	checkError(t, err)
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
	for i, bad := range []func(*corev1.Node){
		func(n *corev1.Node) { n.Status.Addresses[1].Address = "nowhere" },
		func(n *corev1.Node) { n.Spec.PodCIDR, n.Spec.PodCIDRs = "", []string{"10.42.0.0"} },
	} {
		n := in.DeepCopy()
		bad(n)
		got, err := Node(n)
		checkError(t, err, []string{`status.addresses[1] "nowhere" is not an IP address`, `spec.podCIDRs[0] "10.42.0.0" is not a CIDR`}[i])
		if len(got.Addresses)+len(got.PodCIDRs) != 2 {
			t.Errorf("what is sound comes out as %+v", got)
		}
	}
}

func ExampleService() {
	_, err := Service(service(corev1.ServiceSpec{ClusterIP: "none"}))
	fmt.Println(err)
	// Output:
	// spec.clusterIP "none": for a headless Service write None, with a capital N and alone
	// spec.ports is empty: name at least one port (only a headless Service, clusterIP: None, needs none)
}
