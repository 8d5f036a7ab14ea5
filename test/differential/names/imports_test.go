package names

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// clusters are where imported Services come from.
var clusters = []string{"east", "west", "East-2"}

// serviceImport makes a ServiceImport, with the name of a Service of this cluster or not.
func (w *world) serviceImport(namespace string, i int) *mcsv1alpha1.ServiceImport {
	s := &mcsv1alpha1.ServiceImport{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: serviceName(i)}}
	s.Spec.Ports = []mcsv1alpha1.ServicePort{} // the definition wants a list
	for _, p := range w.ports() {
		s.Spec.Ports = append(s.Spec.Ports, mcsv1alpha1.ServicePort{Name: p.Name, Protocol: p.Protocol, Port: p.Port})
	}
	if s.Spec.Type = mcsv1alpha1.Headless; chance(w.Rand, 1, 2) {
		return s
	}
	s.Spec.Type = mcsv1alpha1.ClusterSetIP
	v4, v6 := fmt.Sprintf("10.99.%d.%d", w.IntN(4), i), fmt.Sprintf("fd00:99::%x", i+1)
	s.Spec.IPs = [][]string{{v4}, {v6}, {v4, v6}, {v6, v4}, {}}[w.IntN(5)]
	return s
}

// importedAddress gives imported endpoints addresses of their own, whose reverse names
// nobody asks for: kubernetes does not answer them at all.
var importedAddress = strings.NewReplacer("10.42.", "10.44.", "fd00:10:42:", "fd00:10:44:")

// importSlices makes the EndpointSlices of a ServiceImport, or none. Some belong to a
// Service of this cluster too.
func (w *world) importSlices(s *mcsv1alpha1.ServiceImport) []*discoveryv1.EndpointSlice {
	like := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	for _, p := range s.Spec.Ports {
		like.Spec.Ports = append(like.Spec.Ports, corev1.ServicePort{Name: p.Name, Protocol: p.Protocol, TargetPort: intstr.FromInt32(p.Port + 8000)})
	}
	out := w.slicesOf(like)
	for i, slice := range out {
		slice.Name = fmt.Sprintf("import-%s-%d", s.Name[:min(len(s.Name), 40)], i)
		slice.Labels = map[string]string{mcsv1alpha1.LabelServiceName: s.Name, mcsv1alpha1.LabelSourceCluster: clusters[w.IntN(len(clusters))]}
		for _, e := range slice.Endpoints {
			e.Addresses[0] = importedAddress.Replace(e.Addresses[0])
		}
		if chance(w.Rand, 1, 4) {
			slice.Labels[discoveryv1.LabelServiceName] = serviceName(w.IntN(serviceNames))
		}
	}
	return out
}

func (a *writer) newImport() {
	a.t.Helper()
	s := a.w.serviceImport(a.w.namespace(), a.w.IntN(serviceNames/2))
	a.putImport(s, a.w.importSlices(s))
}

// putImport creates a ServiceImport in the place of one that may be there.
func (a *writer) putImport(s *mcsv1alpha1.ServiceImport, slices []*discoveryv1.EndpointSlice) {
	a.t.Helper()
	key := s.Namespace + "/" + s.Name
	if a.w.imports[key] != nil {
		a.deleteImport(key)
	}
	_, err := a.imports(s.Namespace).Create(background, s, metav1.CreateOptions{})
	a.must(err)
	a.w.imports[key] = s
	a.replaceImportSlices(s, slices)
}

func (a *writer) deleteImport(key string) {
	a.t.Helper()
	s := a.w.imports[key]
	delete(a.w.imports, key)
	a.must(a.imports(s.Namespace).Delete(background, s.Name, metav1.DeleteOptions{}))
	if chance(a.w.Rand, 2, 3) {
		a.replaceImportSlices(s, nil)
	}
}

func (a *writer) replaceImportSlices(s *mcsv1alpha1.ServiceImport, slices []*discoveryv1.EndpointSlice) {
	a.t.Helper()
	a.replaceLabelled(s.Namespace, mcsv1alpha1.LabelServiceName, s.Name, slices)
}

// updateImport changes something of the imports.
func (a *writer) updateImport() {
	a.t.Helper()
	key, ok := pick(a.w, a.w.imports)
	switch n := a.w.IntN(4); {
	case !ok || n == 0:
		a.newImport()
	case n == 1:
		a.deleteImport(key)
	default:
		s := a.w.imports[key]
		a.replaceImportSlices(s, a.w.importSlices(s))
	}
}

// importSentinel makes an import with an endpoint, and returns what asks for it.
func (a *writer) importSentinel(name string) query {
	a.t.Helper()
	s := &mcsv1alpha1.ServiceImport{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	s.Spec = mcsv1alpha1.ServiceImportSpec{Type: mcsv1alpha1.Headless, Ports: []mcsv1alpha1.ServicePort{}}
	a.putImport(s, []*discoveryv1.EndpointSlice{{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "import-" + name, Labels: map[string]string{mcsv1alpha1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.44.0.1"}}},
	}})
	return query{name: name + ".shop.svc.clusterset.local.", qtype: dns.TypeA}
}

// importNames returns the names that imported Services have, those around them, and
// such as nobody has.
func (w *world) importNames() []string {
	const zone = "clusterset.local"
	set := make(nameSet)
	for _, text := range []string{"svc", "pod", "dns", "ns.dns", "dns-version", "nobody", "any.any.svc"} {
		set.add(text, zone)
	}
	set.add(zone)
	for _, n := range namespaces {
		set.add(n.name, "svc", zone)
		set.add(n.name, "pod", zone)
		set.add("nobody", n.name, "svc", zone)
		set.add("10-42-0-10", n.name, "pod", zone)
	}
	for _, s := range w.services {
		set.add(s.Name, s.Namespace, "svc", zone)
	}
	for _, s := range w.imports {
		w.addImport(s, set)
	}
	return slices.Sorted(maps.Keys(set))
}

func (w *world) addImport(s *mcsv1alpha1.ServiceImport, set nameSet) {
	below := s.Name + "." + s.Namespace + ".svc.clusterset.local"
	set.add(below)
	for _, label := range []string{
		"nobody", "_tcp", "_http._tcp", "_https._tcp", "_dns._udp", "_sigtran._sctp", "_http._udp", "_nobody._tcp", "http._tcp", "_http.tcp", "http.tcp", "_._tcp", "http._", "_._", "_", "tcp",
		"_HTTP._TCP", "web-0", "web-0.east", "web-0.west", "web-1.east", "web-1.west", "web-1.east-2", "web-0.nobody", "nobody.east", "a.web-0.east",
		"east", "west", "east-2", "zone-a.pin._zone", "pin._zone", "_zone", "web-0._http._tcp",
	} {
		set.add(label, below)
	}
	for _, slice := range w.slices {
		if slice.Namespace != s.Namespace || slice.Labels[mcsv1alpha1.LabelServiceName] != s.Name {
			continue
		}
		for _, e := range slice.Endpoints {
			dashed := strings.NewReplacer(".", "-", ":", "-").Replace(e.Addresses[0])
			set.add(dashed, below)
			for _, in := range clusters {
				set.add(dashed, in, below)
			}
			if e.TargetRef != nil {
				set.add(e.TargetRef.Name, slice.Labels[mcsv1alpha1.LabelSourceCluster], below)
			}
		}
	}
	for _, ip := range s.Spec.IPs {
		reverse, _ := dns.ReverseAddr(netip.MustParseAddr(ip).String())
		set.add(strings.TrimSuffix(reverse, "."))
	}
}
