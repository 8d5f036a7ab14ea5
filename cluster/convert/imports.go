package convert

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// ServiceImport converts a ServiceImport, without endpoints, to what names need of
// it. One of type ClusterSetIP may come out without ClusterIPs: they are not
// allocated yet. An error is as with Service.
func ServiceImport(s *mcsv1alpha1.ServiceImport) (cluster.Service, error) {
	out := cluster.Service{Name: cluster.ServiceName{Namespace: s.Namespace, Name: s.Name}, Created: s.CreationTimestamp.Time}
	errs := []error{CheckLabel("metadata.name", s.Name), CheckLabel("metadata.namespace", s.Namespace)}
	kinds := map[mcsv1alpha1.ServiceImportType]cluster.Kind{mcsv1alpha1.Headless: cluster.KindHeadless, mcsv1alpha1.ClusterSetIP: cluster.KindClusterIP}
	kind, known := kinds[s.Spec.Type]
	if !known {
		errs = append(errs, fmt.Errorf("spec.type %q is neither ClusterSetIP nor Headless", s.Spec.Type))
	}
	if errors.Join(errs...) == nil {
		out.Kind = kind
	}
	var ipsErr, portsErr error
	if kind == cluster.KindClusterIP {
		out.ClusterIPs, ipsErr = clusterSetIPs(s.Spec.IPs)
	}
	out.Ports, portsErr = importPorts(s.Spec.Ports)
	return out, join(append(errs, ipsErr, portsErr))
}

// importPorts returns the ports that are sound. It allows what a Service may not
// have, such as two names for a number: clusters that export one Service need not
// agree.
func importPorts(given []mcsv1alpha1.ServicePort) ([]cluster.Port, error) {
	var errs []error
	ports := make([]cluster.Port, 0, len(given))
	for i, p := range given {
		at := fmt.Sprintf("spec.ports[%d]", i)
		var faults []error
		protocol, err := cluster.ParseProtocol(string(p.Protocol))
		if err != nil {
			faults = append(faults, fmt.Errorf("%s.%w", at, err))
		}
		if err := CheckLabel(at+".name", p.Name); err != nil && p.Name != "" {
			faults = append(faults, err)
		}
		if p.Port < 1 || p.Port > 65535 {
			faults = append(faults, fmt.Errorf("%s.port %d is outside 1-65535", at, p.Port))
		}
		if len(faults) == 0 {
			ports = append(ports, cluster.Port{Name: p.Name, Protocol: protocol, Port: uint16(p.Port)})
		}
		errs = append(errs, faults...)
	}
	return ports, join(errs)
}

// clusterSetIPs returns the first sound address of each family.
func clusterSetIPs(given []string) ([]netip.Addr, error) {
	var ips []netip.Addr
	var errs []error
	for i, text := range given {
		ip, err := vip(fmt.Sprintf("spec.ips[%d]", i), text)
		if ip.IsValid() && slices.ContainsFunc(ips, func(before netip.Addr) bool { return cluster.FamilyOf(before) == cluster.FamilyOf(ip) }) {
			ip, err = netip.Addr{}, fmt.Errorf("spec.ips[%d] %s is the second %s address, and a ServiceImport has one at most: remove it", i, ip, cluster.FamilyOf(ip))
		}
		errs = append(errs, err)
		if ip.IsValid() {
			ips = append(ips, ip)
		}
	}
	return ips, join(errs)
}

// ImportedEndpointSlice converts a slice and returns the ServiceImport it belongs to
// (label multicluster.kubernetes.io/service-name). Its endpoints are in the cluster
// that the label multicluster.kubernetes.io/source-cluster names. Names have the
// cluster in them, so there are no endpoints if it is no DNS label; as to other
// errors it is as EndpointSlice.
func ImportedEndpointSlice(s *discoveryv1.EndpointSlice) (cluster.ServiceName, []cluster.Endpoint, error) {
	owner := cluster.ServiceName{Namespace: s.Namespace, Name: s.Labels[mcsv1alpha1.LabelServiceName]}
	in := strings.ToLower(s.Labels[mcsv1alpha1.LabelSourceCluster])
	if in != "" {
		if err := CheckLabel("label "+mcsv1alpha1.LabelSourceCluster, in); err != nil {
			return owner, nil, err
		}
	}
	endpoints, err := sliceEndpoints(s, in)
	return owner, endpoints, err
}
