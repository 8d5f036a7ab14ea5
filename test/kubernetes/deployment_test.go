package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

const (
	deployment = "../../corefile/kubernetes"
	dnsAddress = "10.43.0.10"
)

// What kustomization.yaml deploys is taken by an API server as it stands, over the
// Service that kubeadm has made, and the ServiceAccount has the rights that the
// Corefile needs.
func TestDeployment(t *testing.T) {
	a := startAPIServer(t)
	a.create(kubeadmService())
	var kustomization struct{ Resources []string }
	if err := yaml.Unmarshal([]byte(readFile(t, "kustomization.yaml")), &kustomization); err != nil {
		t.Fatal(err)
	}
	for _, file := range kustomization.Resources {
		for document := range strings.SplitSeq(readFile(t, file), "\n---\n") {
			// The cluster is another, and has other addresses.
			a.apply(strings.Replace(document, "10.96.0.10", dnsAddress, 1))
		}
	}
	if len(kustomization.Resources) == 0 {
		t.Fatal("it deploys nothing")
	}
	a.servesThePods()

	a.namespace("shop")
	a.create(service("web", "10.43.0.5"))
	a.AddNode(kubetest.Node())
	p := &program{t: t, dns: kubetest.FreePort(t)}
	// This machine is none of the cluster's nodes.
	text := strings.NewReplacer(
		".:1053", ".:"+p.dns, ":18080", "127.0.0.1:"+kubetest.FreePort(t), ":18181", "127.0.0.1:"+kubetest.FreePort(t), ":9153", "127.0.0.1:"+kubetest.FreePort(t),
		"pods insecure", "pods verified\n kubeconfig "+a.AccountKubeconfig(),
		"kernelnat {", "kernelnat {\n dry_run\n node_name "+kubetest.NodeName,
		"loop\n", "", "/etc/resolv.conf", "192.0.2.1",
	).Replace(readFile(t, "Corefile"))
	p.Process = kubetest.StartProgram(t, nil, true, text)
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
	if !strings.Contains(p.Log(), "backend auto is ") {
		t.Error("the log does not say which backend was chosen")
	}
	if strings.Contains(p.Log(), "forbidden") {
		t.Error("a right is missing")
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(deployment, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// kubeadmService is the Service of the cluster's name server as kubeadm makes it.
func kubeadmService() *corev1.Service {
	port := func(name string, protocol corev1.Protocol, number int32) corev1.ServicePort {
		return corev1.ServicePort{Name: name, Protocol: protocol, Port: number, TargetPort: intstr.FromInt32(number)}
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "kube-dns", Labels: map[string]string{"k8s-app": "kube-dns"}},
		Spec: corev1.ServiceSpec{
			ClusterIP: dnsAddress,
			Selector:  map[string]string{"k8s-app": "kube-dns"},
			Ports:     []corev1.ServicePort{port("dns", "UDP", 53), port("dns-tcp", "TCP", 53), port("metrics", "TCP", 9153)},
		},
	}
}

// servesThePods checks that the Service kube-dns leads to ports of the DaemonSet's
// pods, and to those of CoreDNS's.
func (a *apiServer) servesThePods() {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		s, err := c.CoreV1().Services(metav1.NamespaceSystem).Get(ctx, "kube-dns", metav1.GetOptions{})
		if err != nil {
			return err
		}
		d, err := c.AppsV1().DaemonSets(metav1.NamespaceSystem).Get(ctx, "clusterip", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if want := map[string]string{"k8s-app": "kube-dns"}; !maps.Equal(s.Spec.Selector, want) {
			a.t.Errorf("the Service selects %v, CoreDNS's pods are %v", s.Spec.Selector, want)
		}
		pod := d.Spec.Template
		if !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(pod.Labels)) {
			a.t.Errorf("the Service selects %v, the pods are %v", s.Spec.Selector, pod.Labels)
		}
		var got, ports []string
		for _, p := range s.Spec.Ports {
			got = append(got, fmt.Sprintf("%s %d/%s to %s", p.Name, p.Port, p.Protocol, p.TargetPort.String()))
		}
		for _, p := range pod.Spec.Containers[0].Ports {
			ports = append(ports, fmt.Sprintf("%s %d/%s", p.Name, p.ContainerPort, p.Protocol))
		}
		slices.Sort(got)
		if want := []string{"dns 53/UDP to dns", "dns-tcp 53/TCP to dns-tcp", "metrics 9153/TCP to 9153"}; !slices.Equal(got, want) {
			a.t.Errorf("the Service's ports: %q, want %q", got, want)
		}
		if want := []string{"dns 1053/UDP", "dns-tcp 1053/TCP", "metrics 9153/TCP"}; !slices.Equal(ports, want) {
			a.t.Errorf("the pods' ports: %q, want %q", ports, want)
		}
		return nil
	})
}

// apply does what kubectl apply --server-side --force-conflicts does, with an object
// of kube-system or of no namespace.
func (a *apiServer) apply(document string) {
	a.t.Helper()
	var about metav1.PartialObjectMetadata
	if err := yaml.Unmarshal([]byte(document), &about); err != nil {
		a.t.Fatal(err)
	}
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		var api rest.Interface
		switch about.Kind {
		case "ServiceAccount", "Service":
			api = c.CoreV1().RESTClient()
		case "ClusterRole", "ClusterRoleBinding":
			api = c.RbacV1().RESTClient()
		case "DaemonSet":
			api = c.AppsV1().RESTClient()
		default:
			return fmt.Errorf("no test for kind %q", about.Kind)
		}
		force := true
		return api.Patch(types.ApplyPatchType).
			NamespaceIfScoped(about.Namespace, about.Namespace != "").
			Resource(strings.ToLower(about.Kind)+"s").
			Name(about.Name).
			VersionedParams(&metav1.PatchOptions{FieldManager: "kubectl", Force: &force, FieldValidation: metav1.FieldValidationStrict}, scheme.ParameterCodec).
			Body([]byte(document)).
			Do(ctx).Error()
	})
}
