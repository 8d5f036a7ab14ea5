package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/convert"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
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
			key: func(namespace, name string) cluster.ServiceName {
				return cluster.ServiceName{Namespace: namespace, Name: name}
			},
			read:  readService,
			table: func(j *joiner) *table[cluster.ServiceName, cluster.Service] { return &j.services },
		}),
	}
	if !o.NoEndpoints {
		all = append(all, followKind(s, q, kind[sliceName, slice]{
			resource: discoveryv1.Resource("endpointslices"), client: s.clients.discovery, example: &discoveryv1.EndpointSlice{},
			selects: labels,
			key:     func(namespace, name string) sliceName { return sliceName{namespace, name} },
			read:    sliceReader(),
			table:   func(j *joiner) *table[sliceName, slice] { return &j.slices },
		}))
	}
	if o.Pods {
		all = append(all, followKind(s, q, kind[cluster.PodName, cluster.Pod]{
			resource: corev1.Resource("pods"), client: s.clients.core, example: &corev1.Pod{}, selects: labels,
			key:   func(namespace, name string) cluster.PodName { return cluster.PodName{Namespace: namespace, Name: name} },
			read:  func(given any) (*cluster.Pod, error) { return convert.Pod(given.(*corev1.Pod)) },
			table: func(j *joiner) *table[cluster.PodName, cluster.Pod] { return &j.pods },
		}))
	}
	if o.Node != "" {
		all = append(all, s.natFollowers(q)...)
	}
	return all
}

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
			resource: networkingv1.Resource("servicecidrs"), client: s.clients.networking, example: &networkingv1.ServiceCIDR{},
			selects:  func(*metav1.ListOptions) {},
			optional: true,
			key:      byName,
			read:     readServiceCIDR,
			table:    func(j *joiner) *table[string, []netip.Prefix] { return &j.ranges },
		}),
	}
}

func followKind[K comparable, M any](s *Source, q *queue, k kind[K, M]) follower {
	return followed[K, M]{&k, q, &s.troubles, s.watches}
}

// byName is the key of objects that are in no namespace.
func byName(_, name string) string { return name }

func readService(given any) (*cluster.Service, error) {
	s, err := convert.Service(given.(*corev1.Service))
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// sliceReader returns a function that converts EndpointSlices. Those that belong
// to no Service are not looked at; of those that do, sound endpoints count even
// where others are not.
func sliceReader() func(any) (*slice, error) {
	names := make(interner)
	return func(given any) (*slice, error) {
		s := given.(*discoveryv1.EndpointSlice)
		if s.Labels[discoveryv1.LabelServiceName] == "" {
			return nil, nil
		}
		owner, endpoints, err := convert.EndpointSlice(s)
		for i := range endpoints {
			names.internEndpoint(&endpoints[i])
		}
		return &slice{owner, endpoints}, err
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
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &all, nil
}
