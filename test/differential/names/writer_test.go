package names

import (
	"context"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	mcsclient "sigs.k8s.io/mcs-api/pkg/client/clientset/versioned/typed/apis/v1alpha1"
)

// writer has the API server take the world's objects.
type writer struct {
	t      *testing.T
	client *kubernetes.Clientset
	// imports returns a client of the ServiceImports in a namespace.
	imports func(namespace string) mcsclient.ServiceImportInterface
	w       *world

	sentinels int // how many Services came last
}

var background = context.Background()

// fill creates the namespaces, so many Services with their slices, imports, and pods.
func (a *writer) fill(services int) {
	a.t.Helper()
	for _, n := range namespaces {
		object := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{"team": n.team}}}
		_, err := a.client.CoreV1().Namespaces().Create(background, object, metav1.CreateOptions{})
		a.must(err)
	}
	for range services {
		a.newService()
	}
	for range services / 2 {
		a.newImport()
	}
	for range 40 {
		a.newPod()
	}
}

func (a *writer) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// update changes something.
func (a *writer) update() {
	a.t.Helper()
	switch a.w.IntN(13) {
	case 0, 1:
		a.newService()
	case 2:
		if key, ok := pick(a.w, a.w.services); ok {
			a.deleteService(key)
		}
	case 3:
		if key, ok := pick(a.w, a.w.pods); ok {
			p := a.w.pods[key]
			delete(a.w.pods, key)
			now := int64(0)
			a.must(a.client.CoreV1().Pods(p.Namespace).Delete(background, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
		}
	case 4:
		a.newPod()
	case 5, 6, 7:
		a.updateImport()
	default:
		if key, ok := pick(a.w, a.w.services); ok {
			s := a.w.services[key]
			a.replaceSlices(s, a.w.slicesOf(s))
		}
	}
}

// pick chooses one of a map, the same for the same seed.
func pick[V any](w *world, m map[string]V) (string, bool) {
	if len(m) == 0 {
		return "", false
	}
	keys := slices.Sorted(maps.Keys(m))
	return keys[w.IntN(len(keys))], true
}

func (a *writer) newService() {
	a.t.Helper()
	s := a.w.service(a.w.namespace(), a.w.IntN(serviceNames))
	a.put(s, a.w.slicesOf(s))
}

// put creates a Service in the place of one that may be there.
func (a *writer) put(s *corev1.Service, slices []*discoveryv1.EndpointSlice) {
	a.t.Helper()
	key := s.Namespace + "/" + s.Name
	if a.w.services[key] != nil {
		a.deleteService(key)
	}
	services := a.client.CoreV1().Services(s.Namespace)
	created, err := services.Create(background, s, metav1.CreateOptions{})
	a.must(err)
	if s.Spec.Type == corev1.ServiceTypeLoadBalancer {
		created.Status = s.Status
		created, err = services.UpdateStatus(background, created, metav1.UpdateOptions{})
		a.must(err)
	}
	a.w.services[key] = created
	a.replaceSlices(created, slices)
}

func (a *writer) deleteService(key string) {
	a.t.Helper()
	s := a.w.services[key]
	delete(a.w.services, key)
	a.must(a.client.CoreV1().Services(s.Namespace).Delete(background, s.Name, metav1.DeleteOptions{}))
	// Some stay for a while, as they do when the garbage collector is slow.
	if chance(a.w.Rand, 2, 3) {
		a.replaceSlices(s, nil)
	}
}

func (a *writer) replaceSlices(s *corev1.Service, slices []*discoveryv1.EndpointSlice) {
	a.t.Helper()
	a.replaceLabelled(s.Namespace, discoveryv1.LabelServiceName, s.Name, slices)
}

// replaceLabelled puts slices in the place of all that have a label.
func (a *writer) replaceLabelled(namespace, label, value string, slices []*discoveryv1.EndpointSlice) {
	a.t.Helper()
	client := a.client.DiscoveryV1().EndpointSlices(namespace)
	for key, slice := range a.w.slices {
		if slice.Namespace == namespace && slice.Labels[label] == value {
			a.must(client.Delete(background, slice.Name, metav1.DeleteOptions{}))
			delete(a.w.slices, key)
		}
	}
	for _, slice := range slices {
		_, err := client.Create(background, slice, metav1.CreateOptions{})
		a.must(err)
		a.w.slices[slice.Namespace+"/"+slice.Name] = slice
	}
}

func (a *writer) newPod() {
	a.t.Helper()
	p := a.w.pod(a.w.namespace(), a.w.IntN(40))
	key := p.Namespace + "/" + p.Name
	client := a.client.CoreV1().Pods(p.Namespace)
	now := int64(0)
	err := client.Delete(background, p.Name, metav1.DeleteOptions{GracePeriodSeconds: &now})
	if !apierrors.IsNotFound(err) {
		a.must(err)
	}
	created, err := client.Create(background, p, metav1.CreateOptions{})
	a.must(err)
	created.Status = p.Status
	_, err = client.UpdateStatus(background, created, metav1.UpdateOptions{})
	a.must(err)
	a.w.pods[key] = p
}
