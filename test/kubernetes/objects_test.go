package kubernetes

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// apiServer is a control plane with short ways to write objects. A write that fails
// fails the test.
type apiServer struct {
	*kubetest.ControlPlane
	t *testing.T
}

func startAPIServer(t *testing.T) *apiServer {
	t.Helper()
	return &apiServer{kubetest.Start(t), t}
}

// eachEtcd runs a test beside an API server that lists in one piece and beside one
// that streams its lists.
func eachEtcd(t *testing.T, test func(*testing.T, *apiServer, kubetest.Etcd)) {
	t.Helper()
	for _, etcd := range []kubetest.Etcd{kubetest.Listing, kubetest.Streaming} {
		t.Run(string(etcd), func(t *testing.T) { test(t, &apiServer{kubetest.StartWith(t, etcd), t}, etcd) })
	}
}

func (a *apiServer) do(what func(context.Context, *kubernetes.Clientset) error) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := what(ctx, a.Client); err != nil {
		a.t.Error(err) // not Fatal: several goroutines write
	}
}

func (a *apiServer) namespace(name string) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		_, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		return err
	})
}

// service is one in the namespace shop with a port http. ip may be None.
func service(name, ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

func (a *apiServer) create(s *corev1.Service) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		_, err := c.CoreV1().Services(s.Namespace).Create(ctx, s, metav1.CreateOptions{})
		return err
	})
}

func (a *apiServer) delete(name string) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		return c.CoreV1().Services("shop").Delete(ctx, name, metav1.DeleteOptions{})
	})
}

// change edits a Service.
func (a *apiServer) change(name string, edit func(*corev1.Service)) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		s, err := c.CoreV1().Services("shop").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		edit(s)
		_, err = c.CoreV1().Services("shop").Update(ctx, s, metav1.UpdateOptions{})
		return err
	})
}

// balance writes to the status of a Service what a load balancer would.
func (a *apiServer) balance(name, ip string) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		s, err := c.CoreV1().Services("shop").Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: ip}}
		_, err = c.CoreV1().Services("shop").UpdateStatus(ctx, s, metav1.UpdateOptions{})
		return err
	})
}

// slice is an EndpointSlice of a Service in shop.
func slice(name, service string, addresses ...string) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name,
			Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	for _, address := range addresses {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
	}
	return out
}

// put creates an EndpointSlice or replaces it.
func (a *apiServer) put(s *discoveryv1.EndpointSlice) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		slices := c.DiscoveryV1().EndpointSlices(s.Namespace)
		old, err := slices.Get(ctx, s.Name, metav1.GetOptions{})
		if err != nil {
			_, err = slices.Create(ctx, s, metav1.CreateOptions{})
			return err
		}
		s.ResourceVersion = old.ResourceVersion
		_, err = slices.Update(ctx, s, metav1.UpdateOptions{})
		return err
	})
}

// pod creates a Pod in shop that has an address.
func (a *apiServer) pod(name, node, address string) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		pods := c.CoreV1().Pods("shop")
		p, err := pods.Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
			Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		p.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: address, PodIPs: []corev1.PodIP{{IP: address}}}
		_, err = pods.UpdateStatus(ctx, p, metav1.UpdateOptions{})
		return err
	})
}

// grant lets the ServiceAccount list and watch resources of an API group.
func (a *apiServer) grant(group string, resources ...string) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		about := metav1.ObjectMeta{Name: "test-" + resources[0]}
		_, err := c.RbacV1().ClusterRoles().Create(ctx, &rbacv1.ClusterRole{
			ObjectMeta: about,
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{group}, Resources: resources, Verbs: []string{"list", "watch"}}},
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
		_, err = c.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
			ObjectMeta: about,
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: about.Name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: kubetest.ServiceAccount}},
		}, metav1.CreateOptions{})
		return err
	})
}

// requests returns how many requests for a resource the API server has ended with
// what result, watches included.
func (a *apiServer) requests(resource string) string {
	a.t.Helper()
	var lines []string
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		text, err := c.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "apiserver_request_total{") && strings.Contains(line, fmt.Sprintf("resource=%q", resource)) {
				lines = append(lines, line)
			}
		}
		return err
	})
	slices.Sort(lines)
	return strings.Join(lines, "")
}
