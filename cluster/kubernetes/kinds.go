package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/convert"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// follower is a kind on its way, whatever its objects are.
type follower interface {
	place() string
	follow(context.Context)
}

// followers returns one for every kind that the options ask for.
func (s *Source) followers(q *queue) []follower {
	o := s.options
	labels := func(list *metav1.ListOptions) { list.LabelSelector = o.Labels }
	all := []follower{
		followKind(s, q, kind[string, namespace]{
			resource: corev1.Resource("namespaces"), client: s.clients.core, example: &corev1.Namespace{},
			selects: func(list *metav1.ListOptions) { list.LabelSelector = o.NamespaceLabels },
			key:     byName,
			read:    func(any) (*namespace, error) { return &namespace{}, nil },
			table:   func(j *joiner) *table[string, namespace] { return &j.namespaces },
		}),
		followKind(s, q, kind[cluster.ServiceName, cluster.Service]{
			resource: corev1.Resource("services"), client: s.clients.core, example: &corev1.Service{}, selects: labels,
			key:   byServiceName,
			read:  readService,
			table: func(j *joiner) *table[cluster.ServiceName, cluster.Service] { return &j.services.table },
		}),
	}
	if !o.NoEndpoints || o.Imports {
		all = append(all, s.sliceFollower(q))
	}
	if o.Imports {
		all = append(all, s.importFollower(q))
	}
	if o.Pods {
		all = append(all, s.podFollower(q))
	}
	if o.Node != "" {
		all = append(all, s.natFollowers(q)...)
	}
	return all
}

// podFollower follows Pods that have their addresses: CoreDNS passes over the same.
func (s *Source) podFollower(q *queue) follower {
	selector := fields.ParseSelectorOrDie("status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown")
	if node := s.options.PodsNode; node != "" {
		selector = fields.AndSelectors(selector, fields.OneTermEqualSelector("spec.nodeName", node))
	}
	return followKind(s, q, kind[cluster.PodName, cluster.Pod]{
		resource: corev1.Resource("pods"), client: s.clients.core, example: &corev1.Pod{},
		selects: func(list *metav1.ListOptions) {
			list.LabelSelector, list.FieldSelector = s.options.Labels, selector.String()
		},
		key:   func(namespace, name string) cluster.PodName { return cluster.PodName{Namespace: namespace, Name: name} },
		read:  func(given any) (*cluster.Pod, error) { return convert.Pod(given.(*corev1.Pod)) },
		table: func(j *joiner) *table[cluster.PodName, cluster.Pod] { return &j.pods },
	})
}

// sliceFollower follows all EndpointSlices that are needed. By its labels a slice backs a
// Service, an imported one, or both, so there is one watch for all: a second one, as
// CoreDNS has, would send every imported slice twice.
func (s *Source) sliceFollower(q *queue) follower {
	selector := s.options.Labels
	if s.options.NoEndpoints {
		selector = strings.TrimPrefix(selector+","+mcsv1alpha1.LabelServiceName, ",")
	}
	return followKind(s, q, kind[sliceName, slice]{
		resource: discoveryv1.Resource("endpointslices"), client: s.clients.discovery, example: &discoveryv1.EndpointSlice{},
		selects: func(list *metav1.ListOptions) { list.LabelSelector = selector },
		key:     func(namespace, name string) sliceName { return sliceName{namespace, name} },
		read:    sliceReader(s.options),
		table:   func(j *joiner) *table[sliceName, slice] { return &j.slices },
	})
}

// importFollower follows ServiceImports, whose definition may be installed, or taken
// away, at any time. The option labels is not for them, as in CoreDNS.
func (s *Source) importFollower(q *queue) follower {
	return followKind(s, q, kind[cluster.ServiceName, cluster.Service]{
		resource: mcsv1alpha1.Resource("serviceimports"), client: s.clients.multicluster, example: &mcsv1alpha1.ServiceImport{},
		selects:  func(*metav1.ListOptions) {},
		optional: true,
		mayCome:  true,
		key:      byServiceName,
		read:     readServiceImport,
		table:    func(j *joiner) *table[cluster.ServiceName, cluster.Service] { return &j.imports.table },
	})
}

var serviceCIDRs = networkingv1.Resource("servicecidrs")

// natFollowers are for what NAT alone needs.
func (s *Source) natFollowers(q *queue) []follower {
	return []follower{
		followKind(s, q, kind[string, cluster.Node]{
			resource: corev1.Resource("nodes"), client: s.clients.core, example: &corev1.Node{},
			selects: func(list *metav1.ListOptions) {
				list.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, s.options.Node).String()
			},
			key:   byName,
			read:  func(given any) (*cluster.Node, error) { return convert.Node(given.(*corev1.Node)) },
			table: func(j *joiner) *table[string, cluster.Node] { return &j.nodes },
		}),
		followKind(s, q, kind[string, []netip.Prefix]{
			resource: serviceCIDRs, client: s.clients.networking, example: &networkingv1.ServiceCIDR{},
			selects:  func(*metav1.ListOptions) {},
			optional: true,
			mustSee:  true,
			key:      byName,
			read:     readServiceCIDR,
			table:    func(j *joiner) *table[string, []netip.Prefix] { return &j.ranges },
		}),
	}
}

func followKind[K comparable, M any](s *Source, q *queue, k kind[K, M]) follower {
	return followed[K, M]{&k, new(atomic.Bool), q, &s.troubles, s.watches}
}

// byName is the key of objects that are in no namespace.
func byName(_, name string) string { return name }

func byServiceName(namespace, name string) cluster.ServiceName {
	return cluster.ServiceName{Namespace: namespace, Name: name}
}

// readService takes what of a Service can be served, and says what cannot.
func readService(given any) (*cluster.Service, error) {
	from := given.(*corev1.Service)
	s, err := convert.Service(from)
	if s.Kind == 0 {
		return nil, err
	}
	return &s, errors.Join(append(convert.BeyondDNS(from), err)...)
}

func readServiceImport(given any) (*cluster.Service, error) {
	s, err := convert.ServiceImport(given.(*mcsv1alpha1.ServiceImport))
	if s.Kind == 0 {
		return nil, err
	}
	return &s, err
}

// sliceReader returns a function that converts EndpointSlices: once for the Service of
// this cluster that a slice backs, and once for the imported one. Slices that back none
// are not looked at. Sound endpoints count even where others are not.
func sliceReader(o Options) func(any) (*slice, error) {
	shared := newEndpointInterner()
	back := func(owner cluster.ServiceName, endpoints []cluster.Endpoint, err error) (*backing, error) {
		shared.intern(endpoints)
		if !o.PodNames {
			for i := range endpoints {
				endpoints[i].PodName = ""
			}
		}
		return &backing{owner: owner, endpoints: endpoints}, err
	}
	return func(given any) (*slice, error) {
		s := given.(*discoveryv1.EndpointSlice)
		var out slice
		var err error
		if !o.NoEndpoints && s.Labels[discoveryv1.LabelServiceName] != "" {
			out.local, err = back(convert.EndpointSlice(s))
			out.local.triggered = convert.TriggerTime(s.ObjectMeta)
		}
		if o.Imports && s.Labels[mcsv1alpha1.LabelServiceName] != "" {
			// The faults are those found above, and some more.
			out.imported, err = back(convert.ImportedEndpointSlice(s))
		}
		if out == (slice{}) {
			return nil, nil
		}
		return &out, err
	}
}

func readServiceCIDR(given any) (*[]netip.Prefix, error) {
	var all []netip.Prefix
	var errs []error
	for i, text := range given.(*networkingv1.ServiceCIDR).Spec.CIDRs {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("spec.cidrs[%d] %q is not a CIDR", i, text))
			continue
		}
		all = append(all, prefix.Masked())
	}
	return &all, errors.Join(errs...)
}
