package kubernetes

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

const deployment = "../../corefile/kubernetes"

// What kustomization.yaml deploys is taken by an API server as it stands, and the
// ServiceAccount has the rights that the Corefile needs.
func TestDeployment(t *testing.T) {
	a := startAPIServer(t)
	var kustomization struct{ Resources []string }
	if err := yaml.Unmarshal([]byte(readFile(t, "kustomization.yaml")), &kustomization); err != nil {
		t.Fatal(err)
	}
	for _, file := range kustomization.Resources {
		for document := range strings.SplitSeq(readFile(t, file), "\n---\n") {
			a.apply([]byte(document))
		}
	}
	if len(kustomization.Resources) == 0 {
		t.Fatal("it deploys nothing")
	}

	a.namespace("shop")
	a.create(service("web", "10.43.0.5"))
	a.AddNode(kubetest.Node())
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{t: t, corefile: filepath.Join(t.TempDir(), "Corefile"), dns: freePort(t)}
	// The cluster is another, and this machine none of its nodes.
	text := strings.NewReplacer(
		".:1053", ".:"+p.dns, ":18080", "127.0.0.1:"+freePort(t), ":18181", "127.0.0.1:"+freePort(t), ":9153", "127.0.0.1:"+freePort(t),
		"pods insecure", "pods verified\n kubeconfig "+a.AccountKubeconfig(),
		"kernelnat {", "kernelnat {\n dry_run\n node_name "+kubetest.NodeName,
		"loop\n", "", "/etc/resolv.conf", "192.0.2.1",
	).Replace(readFile(t, "Corefile"))
	if err := os.WriteFile(p.corefile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p.Process = kubetest.StartOn(t, nil, exec.Command(path, "-conf", p.corefile))
	p.answers("web.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
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

// read fails the test for fields that the type does not have.
func read(t *testing.T, document []byte, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(document, into); err != nil {
		t.Fatalf("%v in\n%s", err, document)
	}
}

// apply creates an object of kube-system or of no namespace.
func (a *apiServer) apply(document []byte) {
	a.t.Helper()
	var about metav1.TypeMeta
	if err := yaml.Unmarshal(document, &about); err != nil {
		a.t.Fatal(err)
	}
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		const namespace = metav1.NamespaceSystem
		var err error
		switch about.Kind {
		case "ServiceAccount":
			var o corev1.ServiceAccount
			read(a.t, document, &o)
			_, err = c.CoreV1().ServiceAccounts(namespace).Create(ctx, &o, metav1.CreateOptions{})
		case "ClusterRole":
			var o rbacv1.ClusterRole
			read(a.t, document, &o)
			_, err = c.RbacV1().ClusterRoles().Create(ctx, &o, metav1.CreateOptions{})
		case "ClusterRoleBinding":
			var o rbacv1.ClusterRoleBinding
			read(a.t, document, &o)
			_, err = c.RbacV1().ClusterRoleBindings().Create(ctx, &o, metav1.CreateOptions{})
		case "Service":
			var o corev1.Service
			read(a.t, document, &o)
			o.Spec.ClusterIP = "10.43.0.10" // of this cluster's range
			_, err = c.CoreV1().Services(namespace).Create(ctx, &o, metav1.CreateOptions{})
		case "DaemonSet":
			var o appsv1.DaemonSet
			read(a.t, document, &o)
			_, err = c.AppsV1().DaemonSets(namespace).Create(ctx, &o, metav1.CreateOptions{})
		default:
			err = fmt.Errorf("no test for kind %q", about.Kind)
		}
		return err
	})
}
