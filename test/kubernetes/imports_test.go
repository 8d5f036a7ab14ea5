package kubernetes

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

const clusterSet = ".shop.svc.clusterset.local"

// The definition of ServiceImports comes when the program runs already, and goes again.
func TestMulticluster(t *testing.T) { eachEtcd(t, testMulticluster) }

func testMulticluster(t *testing.T, a *apiServer, _ kubetest.Etcd) {
	a.namespace("shop")
	a.create(service("web", "10.43.0.5"))
	a.put(imported("db-east", "db", "east", "10.42.0.1", "10.42.0.2"))
	a.put(imported("db-west", "db", "west", "10.42.0.1"))
	six := imported("db-west-6", "db", "west", "fd00:10:42::1")
	six.AddressType = discoveryv1.AddressTypeIPv6
	a.put(six)
	p := startWith(t, "cluster.local clusterset.local 10.in-addr.arpa", "kubeconfig "+a.Kubeconfig(), "multicluster clusterset.local")
	const complaint = "serviceimports.multicluster.x-k8s.io: list: the API server does not have serviceimports.multicluster.x-k8s.io"
	p.logs(complaint)
	p.readiness("200")
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
	p.answers("web"+clusterSet, "A", "NXDOMAIN")

	t.Log("the definition is installed")
	a.InstallServiceImports()
	a.importService("api", mcsv1alpha1.ServiceImportSpec{Type: mcsv1alpha1.ClusterSetIP, IPs: []string{"10.99.0.7", "fd00:99::7"}})
	a.importService("db", mcsv1alpha1.ServiceImportSpec{Type: mcsv1alpha1.Headless})
	p.answers("api"+clusterSet, "A", "NOERROR 10.99.0.7")
	p.answers("db"+clusterSet, "AAAA", "NOERROR fd00:10:42::1")
	if n := strings.Count(p.Log(), complaint); n != 1 {
		t.Errorf("it was complained %d times", n)
	}
	for _, c := range []struct{ name, qtype, want string }{
		{"api" + clusterSet, "AAAA", "NOERROR fd00:99::7"},
		{"_http._tcp.api" + clusterSet, "SRV", "NOERROR 0 50 80 api" + clusterSet + "."},
		{"db" + clusterSet, "A", "NOERROR 10.42.0.1 10.42.0.2"},
		{"10-42-0-1.east.db" + clusterSet, "A", "NOERROR 10.42.0.1"},
		{"10-42-0-1.west.db" + clusterSet, "A", "NOERROR 10.42.0.1"},
		{"10-42-0-2.west.db" + clusterSet, "A", "NXDOMAIN"},
		{"fd00-10-42--1.west.db" + clusterSet, "AAAA", "NOERROR fd00:10:42::1"},
		{"10-42-0-2.east.db" + clusterSet, "SRV", "NOERROR 0 100 8080 10-42-0-2.east.db" + clusterSet + "."},
		{"_http._tcp.db" + clusterSet, "SRV", "NOERROR 0 25 8080 10-42-0-1.east.db" + clusterSet + ". 0 25 8080 10-42-0-1.west.db" + clusterSet +
			". 0 25 8080 10-42-0-2.east.db" + clusterSet + ". 0 25 8080 fd00-10-42--1.west.db" + clusterSet + "."},
		{"db.shop.svc.cluster.local", "A", "NXDOMAIN"},
		{"7.0.99.10.in-addr.arpa", "PTR", "NXDOMAIN"},
		{"1.0.42.10.in-addr.arpa", "PTR", "NXDOMAIN"},
		{"5.0.43.10.in-addr.arpa", "PTR", "NOERROR web.shop.svc.cluster.local."},
	} {
		if got := inOrder(p.dig(c.name, c.qtype)); got != inOrder(c.want) {
			t.Errorf("%s %s: got %q, want %q", c.name, c.qtype, got, c.want)
		}
	}

	t.Log("endpoints, imports and the definition go")
	a.put(imported("db-east", "db", "east", "10.42.0.2"))
	p.answers("10-42-0-1.east.db"+clusterSet, "A", "NXDOMAIN")
	a.do(func(ctx context.Context, _ *kubernetes.Clientset) error {
		return a.ServiceImports("shop").Delete(ctx, "api", metav1.DeleteOptions{})
	})
	p.answers("api"+clusterSet, "A", "NXDOMAIN")
	a.RemoveServiceImports()
	p.answers("db"+clusterSet, "A", "NXDOMAIN")
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
}

// What went while the API server was out of reach, with its definition, is gone, and
// that it is missing is nothing that is broken.
func TestDefinitionGoesInOutage(t *testing.T) { eachEtcd(t, testDefinitionGoesInOutage) }

func testDefinitionGoesInOutage(t *testing.T, a *apiServer, _ kubetest.Etcd) {
	a.namespace("shop")
	a.InstallServiceImports()
	a.importService("api", mcsv1alpha1.ServiceImportSpec{Type: mcsv1alpha1.ClusterSetIP, IPs: []string{"10.99.0.7"}})
	line := a.NewLine()
	p := startWith(t, "cluster.local clusterset.local", "kubeconfig "+a.KubeconfigThrough(line), "multicluster clusterset.local", "stale_after 1s")
	p.answers("api"+clusterSet, "A", "NOERROR 10.99.0.7")
	line.Cut()
	p.readiness("503")
	a.RemoveServiceImports()
	line.Mend()
	p.answers("api"+clusterSet, "A", "NXDOMAIN")
	p.readiness("200")
}

// Without the right to see ServiceImports all else is served, and when it is given
// they come.
func TestMulticlusterRefused(t *testing.T) {
	a := startAPIServer(t)
	a.namespace("shop")
	a.create(service("web", "10.43.0.5"))
	a.InstallServiceImports()
	a.importService("api", mcsv1alpha1.ServiceImportSpec{Type: mcsv1alpha1.ClusterSetIP, IPs: []string{"10.99.0.7"}})
	a.grant("", "namespaces", "services")
	a.grant("discovery.k8s.io", "endpointslices")
	p := startWith(t, "cluster.local clusterset.local", "kubeconfig "+a.AccountKubeconfig(), "multicluster clusterset.local")
	p.logs("serviceimports.multicluster.x-k8s.io: list forbidden: give the ServiceAccount the verbs list and watch")
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
	p.answers("api"+clusterSet, "A", "NXDOMAIN")
	a.grant("multicluster.x-k8s.io", "serviceimports")
	p.answers("api"+clusterSet, "A", "NOERROR 10.99.0.7")
	p.logs("serviceimports.multicluster.x-k8s.io: well again")
}

// inOrder sorts the words of an answer, of which the order does not count.
func inOrder(answer string) string {
	words := strings.Fields(answer)
	slices.Sort(words)
	return strings.Join(words, " ")
}

// imported is an EndpointSlice of a ServiceImport in shop.
func imported(name, service, cluster string, addresses ...string) *discoveryv1.EndpointSlice {
	out := slice(name, service, addresses...)
	out.Labels = map[string]string{mcsv1alpha1.LabelServiceName: service, mcsv1alpha1.LabelSourceCluster: cluster}
	return out
}

// importService creates a ServiceImport in shop with a port http.
func (a *apiServer) importService(name string, spec mcsv1alpha1.ServiceImportSpec) {
	a.t.Helper()
	spec.Ports = []mcsv1alpha1.ServicePort{{Name: "http", Port: 80}}
	a.do(func(ctx context.Context, _ *kubernetes.Clientset) error {
		_, err := a.ServiceImports("shop").Create(ctx, &mcsv1alpha1.ServiceImport{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
		return err
	})
}
