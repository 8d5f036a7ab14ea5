package differential

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/kubetest"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// namespace is where the tests' objects are.
const namespace = "testing"

// objects are what both sides are given.
type objects struct {
	services []corev1.Service
	slices   []discoveryv1.EndpointSlice
}

// create has the API server take the objects. It fills in what they leave out.
func (o *objects) create(t *testing.T, c *kubetest.ControlPlane, writers int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience+time.Duration(len(o.services))*50*time.Millisecond)
	defer cancel()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
	if _, err := c.Client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	each(t, len(o.services), writers, func(i int) error {
		s := &o.services[i]
		created, err := c.Client.CoreV1().Services(namespace).Create(ctx, s, metav1.CreateOptions{})
		if err != nil || len(s.Status.LoadBalancer.Ingress) == 0 {
			return err
		}
		created.Status = s.Status
		_, err = c.Client.CoreV1().Services(namespace).UpdateStatus(ctx, created, metav1.UpdateOptions{})
		return err
	})
	each(t, len(o.slices), writers, func(i int) error {
		_, err := c.Client.DiscoveryV1().EndpointSlices(namespace).Create(ctx, &o.slices[i], metav1.CreateOptions{})
		return err
	})
}

// each makes objects, in order if there is one writer. More take less time, since etcd
// mostly waits for its disk.
func each(t *testing.T, n, writers int, create func(i int) error) {
	t.Helper()
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := w; i < n && !t.Failed(); i += writers {
				if err := create(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if writing.Wait(); t.Failed() {
		t.FailNow()
	}
}

// list returns all Services and EndpointSlices of the API server, those that it
// makes itself too.
func list(t *testing.T, c *kubetest.ControlPlane) objects {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	services, err := c.Client.CoreV1().Services("").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	slices, err := c.Client.DiscoveryV1().EndpointSlices("").List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return objects{services.Items, slices.Items}
}

// manifests writes the objects and the Node to a folder, as `kubectl get -o yaml` prints them.
func (o *objects) manifests(t *testing.T) (folder string) {
	t.Helper()
	folder = t.TempDir()
	write := func(object any, kind string, meta metav1.ObjectMeta) {
		text, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("%s.%s.%s.yaml", kind, meta.Namespace, meta.Name)
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	node := kubetest.Node()
	write(node, "node", node.ObjectMeta)
	for _, s := range o.services {
		s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
		write(s, "service", s.ObjectMeta)
	}
	for _, s := range o.slices {
		s.TypeMeta = metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}
		write(s, "slice", s.ObjectMeta)
	}
	return folder
}
