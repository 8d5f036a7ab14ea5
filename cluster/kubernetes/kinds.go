package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

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
func (s *Source) followers() []follower {
	o := s.options
	all := []follower{
		followKind(s, kind[namespace]{
			resource: corev1.Resource("namespaces"), example: &corev1.Namespace{},
			labels: o.NamespaceLabels,
			read:   func(any) (*namespace, error) { return &namespace{}, nil },
			table:  func(j *joiner) *table[namespace] { return &j.namespaces },
		}),
		followKind(s, kind[cluster.Service]{
			resource: corev1.Resource("services"), example: &corev1.Service{}, labels: o.Labels,
			read:  readService,
			table: func(j *joiner) *table[cluster.Service] { return &j.services.table },
		}),
	}
	if !o.NoEndpoints || o.Imports {
		all = append(all, s.sliceFollower())
	}
	if o.Imports {
		all = append(all, s.importFollower())
	}
	if o.Pods {
		all = append(all, s.podFollower())
	}
	if o.Node != "" {
		all = append(all, s.natFollowers()...)
	}
	return all
}

// podFollower follows Pods that have their addresses: CoreDNS passes over the same.
func (s *Source) podFollower() follower {
	selector := fields.ParseSelectorOrDie("status.phase!=Succeeded,status.phase!=Failed,status.phase!=Unknown")
	if node := s.options.PodsNode; node != "" {
		selector = fields.AndSelectors(selector, fields.OneTermEqualSelector("spec.nodeName", node))
	}
	return followKind(s, kind[cluster.Pod]{
		resource: corev1.Resource("pods"), example: &corev1.Pod{},
		labels: s.options.Labels, fields: selector.String(),
		read:  func(given any) (*cluster.Pod, error) { return convert.Pod(given.(*corev1.Pod)) },
		table: func(j *joiner) *table[cluster.Pod] { return &j.pods },
	})
}

// sliceFollower follows all EndpointSlices that are needed. By its labels a slice backs a
// Service, an imported one, or both, so there is one watch for all: a second one, as
// CoreDNS has, would send every imported slice twice.
func (s *Source) sliceFollower() follower {
	selector := s.options.Labels
	if s.options.NoEndpoints {
		selector = strings.TrimPrefix(selector+","+mcsv1alpha1.LabelServiceName, ",")
	}
	return followKind(s, kind[slice]{
		resource: discoveryv1.Resource("endpointslices"), example: &discoveryv1.EndpointSlice{},
		labels: selector,
		read:   sliceReader(s.options),
		table:  func(j *joiner) *table[slice] { return &j.slices },
	})
}

// importFollower follows ServiceImports, whose definition may be installed, or taken
// away, at any time. The option labels is not for them, as in CoreDNS.
func (s *Source) importFollower() follower {
	return followKind(s, kind[cluster.Service]{
		resource: mcsv1alpha1.Resource("serviceimports"), example: &mcsv1alpha1.ServiceImport{},
		optional: true, mayCome: true,
		read:  readServiceImport,
		table: func(j *joiner) *table[cluster.Service] { return &j.imports.table },
	})
}

var serviceCIDRs = networkingv1.Resource("servicecidrs")

// natFollowers are for what NAT alone needs.
func (s *Source) natFollowers() []follower {
	return []follower{
		followKind(s, kind[cluster.Node]{
			resource: corev1.Resource("nodes"), example: &corev1.Node{},
			fields: fields.OneTermEqualSelector(metav1.ObjectNameField, s.options.Node).String(),
			read:   func(given any) (*cluster.Node, error) { return convert.Node(given.(*corev1.Node)) },
			table:  func(j *joiner) *table[cluster.Node] { return &j.nodes },
		}),
		followKind(s, kind[[]netip.Prefix]{
			resource: serviceCIDRs, example: &networkingv1.ServiceCIDR{},
			optional: true, mustSee: true,
			read:  readServiceCIDR,
			table: func(j *joiner) *table[[]netip.Prefix] { return &j.ranges },
		}),
	}
}

func followKind[M any](s *Source, k kind[M]) follower {
	return &followed[M]{kind: k, source: s, namespaces: make(interner[string, string])}
}

// readService takes what of a Service can be served, and says what cannot.
func readService(given any) (*cluster.Service, error) {
	from := given.(*corev1.Service)
	s, err := convert.Service(from)
	if s.Kind == 0 {
		return nil, err
	}
	return &s, errors.Join(append(append(convert.BeyondDNS(from), convert.Balancing(from)...), err)...)
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
		return &backing{owner: key(owner), endpoints: endpoints}, err
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
