package kubernetes

import (
	"context"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// The options that narrow what is served.
func TestSelects(t *testing.T) {
	a := startAPIServer(t)
	a.namespace("shop")
	app := map[string]string{"app": "web"}
	labelled, plain := service("labelled", "None"), service("plain", "10.43.0.5")
	labelled.Labels = app
	a.create(labelled)
	a.create(plain)
	own, foreign := slice("own", "labelled", "10.42.0.1"), slice("foreign", "labelled", "10.42.0.2")
	own.Labels["app"] = "web"
	a.put(own)
	a.put(foreign)
	kubeconfig := "kubeconfig " + a.Kubeconfig()

	t.Run("labels", func(t *testing.T) {
		p := start(t, kubeconfig, "labels app in (web, db)")
		p.answers("labelled.shop.svc.cluster.local", "A", "NOERROR 10.42.0.1")
		p.answers("plain.shop.svc.cluster.local", "A", "NXDOMAIN")
		foreign.Labels["app"] = "web"
		a.put(foreign)
		p.answers("2.0.42.10.in-addr.arpa", "PTR", "NOERROR 10-42-0-2.labelled.shop.svc.cluster.local.")
	})
	t.Run("noendpoints", func(t *testing.T) {
		p := start(t, kubeconfig, "noendpoints")
		p.answers("plain.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
		p.answers("labelled.shop.svc.cluster.local", "A", "NXDOMAIN")
	})
	t.Run("namespace_labels", func(t *testing.T) {
		p := start(t, kubeconfig, "namespace_labels app=web", "pods verified")
		a.pod("client", "node-1", "10.42.0.9")
		p.answers("plain.shop.svc.cluster.local", "A", "NXDOMAIN")
		a.label("shop", app)
		p.answers("plain.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
		p.answers("10-42-0-9.shop.pod.cluster.local", "A", "NOERROR 10.42.0.9")
		a.label("shop", nil)
		p.answers("plain.shop.svc.cluster.local", "A", "NXDOMAIN")
		p.answers("10-42-0-9.shop.pod.cluster.local", "A", "NXDOMAIN")
	})
	t.Run("pods_on_node", func(t *testing.T) {
		a.pod("elsewhere", "node-2", "10.42.1.9")
		all := start(t, kubeconfig, "pods verified")
		all.answers("10-42-1-9.shop.pod.cluster.local", "A", "NOERROR 10.42.1.9")
		p := start(t, kubeconfig, "pods verified", "pods_on_node node-1")
		p.answers("10-42-0-9.shop.pod.cluster.local", "A", "NOERROR 10.42.0.9")
		p.answers("10-42-1-9.shop.pod.cluster.local", "A", "NXDOMAIN")
		p.configure(kubeconfig, "pods verified")
		p.Signal(syscall.SIGUSR1)
		p.answers("10-42-1-9.shop.pod.cluster.local", "A", "NOERROR 10.42.1.9")
	})
	t.Run("namespaces that go", func(t *testing.T) {
		p := start(t, kubeconfig)
		p.answers("plain.shop.svc.cluster.local", "A", "NOERROR 10.43.0.5")
		a.delete("plain")
		a.delete("labelled")
		p.answers("shop.svc.cluster.local", "A", "NOERROR")
		a.removeNamespace("shop")
		p.answers("shop.svc.cluster.local", "A", "NXDOMAIN")
	})
}

// label replaces the labels of a namespace.
func (a *apiServer) label(namespace string, labels map[string]string) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		n, err := c.CoreV1().Namespaces().Get(ctx, namespace, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Labels = labels
		_, err = c.CoreV1().Namespaces().Update(ctx, n, metav1.UpdateOptions{})
		return err
	})
}

// removeNamespace does what the namespace controller would: it lets an empty
// namespace go.
func (a *apiServer) removeNamespace(name string) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		if err := c.CoreV1().Namespaces().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
			return err
		}
		n, err := c.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		n.Spec.Finalizers = []corev1.FinalizerName{}
		_, err = c.CoreV1().Namespaces().Finalize(ctx, n, metav1.UpdateOptions{})
		return err
	})
}
