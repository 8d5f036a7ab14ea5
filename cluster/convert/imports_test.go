package convert

import (
	"testing"

	"github.com/clusterip/clusterip/cluster"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

func TestServiceImport(t *testing.T) {
	name := cluster.ServiceName{Namespace: "testing", Name: "echo"}
	ports := []mcsv1alpha1.ServicePort{{Name: "http", Port: 80}, {Name: "web", Port: 80}}
	wanted := []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}, {Name: "web", Protocol: cluster.TCP, Port: 80}}
	for _, test := range []struct {
		name string
		spec mcsv1alpha1.ServiceImportSpec
		want cluster.Service
	}{
		{"ClusterSetIP", mcsv1alpha1.ServiceImportSpec{Type: "ClusterSetIP", IPs: []string{"10.99.0.1", "fd00::1"}, Ports: ports},
			cluster.Service{Name: name, Kind: cluster.KindClusterIP, ClusterIPs: addrs("10.99.0.1", "fd00::1"), Ports: wanted}},
		{"no address yet", mcsv1alpha1.ServiceImportSpec{Type: "ClusterSetIP"},
			cluster.Service{Name: name, Kind: cluster.KindClusterIP, Ports: []cluster.Port{}}},
		{"Headless", mcsv1alpha1.ServiceImportSpec{Type: "Headless", IPs: []string{"10.99.0.1"}, Ports: ports},
			cluster.Service{Name: name, Kind: cluster.KindHeadless, Ports: wanted}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ServiceImport(&mcsv1alpha1.ServiceImport{ObjectMeta: meta("echo"), Spec: test.spec})
			checkError(t, err)
			if d := diff(test.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestServiceImportFaults(t *testing.T) {
	_, err := ServiceImport(&mcsv1alpha1.ServiceImport{ObjectMeta: meta("a.b"), Spec: mcsv1alpha1.ServiceImportSpec{
		Type: "clustersetip", Ports: []mcsv1alpha1.ServicePort{{Name: "A", Protocol: "ICMP", Port: 70000}},
	}})
	checkError(t, err, `metadata.name "a.b" is no DNS label`, `spec.type "clustersetip" is neither ClusterSetIP nor Headless`,
		`spec.ports[0].protocol "ICMP"`, `spec.ports[0].name "A" is no DNS label`, "spec.ports[0].port 70000 is outside 1-65535")
	for _, test := range []struct {
		ips, sound []string
		want       string
	}{
		{[]string{"10.99.0.1", "x"}, []string{"10.99.0.1"}, `spec.ips[1] "x" is not an IP address`},
		{[]string{"127.0.0.1", "fd00::1"}, []string{"fd00::1"}, "spec.ips[0] 127.0.0.1 is unspecified, loopback"},
		{[]string{"10.99.0.1", "10.99.0.2"}, []string{"10.99.0.1"}, "spec.ips[1] 10.99.0.2 is the second IPv4 address"},
	} {
		got, err := ServiceImport(&mcsv1alpha1.ServiceImport{ObjectMeta: meta("echo"), Spec: mcsv1alpha1.ServiceImportSpec{Type: "ClusterSetIP", IPs: test.ips}})
		checkError(t, err, test.want)
		if d := diff(addrs(test.sound...), got.ClusterIPs); d != "" || got.Kind != cluster.KindClusterIP {
			t.Errorf("%v: the kind is %v; %s", test.ips, got.Kind, d)
		}
	}
}

func TestImportedEndpointSlice(t *testing.T) {
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta("echo-1"), Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.42.0.1", "127.0.0.1"}}}}
	s.Labels = map[string]string{
		mcsv1alpha1.LabelServiceName: "echo", mcsv1alpha1.LabelSourceCluster: "East",
		discoveryv1.LabelServiceName: "derived-echo",
	}
	owner, endpoints, err := ImportedEndpointSlice(s)
	checkError(t, err, "address 127.0.0.1 cannot be an endpoint")
	if owner.String() != "testing/echo" || len(endpoints) != 1 || endpoints[0].Cluster() != "east" || !endpoints[0].Ready {
		t.Errorf("%v has %+v", owner, endpoints)
	}
	s.Labels[mcsv1alpha1.LabelSourceCluster] = "us.east"
	_, endpoints, err = ImportedEndpointSlice(s)
	checkError(t, err, `label multicluster.kubernetes.io/source-cluster "us.east" is no DNS label`)
	if len(endpoints) > 0 {
		t.Errorf("endpoints in no cluster: %+v", endpoints)
	}
}
