package convert

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// ServiceImport converts a ServiceImport, without endpoints, to what names need of
// it. One of type ClusterSetIP may come out without ClusterIPs: they are not
// allocated yet.
func ServiceImport(s *mcsv1alpha1.ServiceImport) (cluster.Service, error) {
	out := cluster.Service{Name: cluster.ServiceName{Namespace: s.Namespace, Name: s.Name}, Created: s.CreationTimestamp.Time}
	errs := checkName("metadata.name", s.Name)
	errs = append(errs, checkName("metadata.namespace", s.Namespace)...)
	switch s.Spec.Type {
	case mcsv1alpha1.Headless:
		out.Kind = cluster.KindHeadless
	case mcsv1alpha1.ClusterSetIP:
		var err error
		out.Kind = cluster.KindClusterIP
		out.ClusterIPs, err = clusterSetIPs(s.Spec.IPs)
		errs = append(errs, err)
	default:
		errs = append(errs, fmt.Errorf("spec.type %q is neither ClusterSetIP nor Headless", s.Spec.Type))
	}
	ports, err := importPorts(s.Spec.Ports)
	out.Ports = ports
	return out, errors.Join(append(errs, err)...)
}

// importPorts allows what a Service may not have, such as two names for a number:
// clusters that export one Service need not agree.
func importPorts(given []mcsv1alpha1.ServicePort) ([]cluster.Port, error) {
	var errs []error
	ports := make([]cluster.Port, 0, len(given))
	for i, p := range given {
		at := fmt.Sprintf("spec.ports[%d]", i)
		protocol, err := cluster.ParseProtocol(string(p.Protocol))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s.%w", at, err))
		}
		if p.Name != "" {
			errs = append(errs, checkName(at+".name", p.Name)...)
		}
		if p.Port < 1 || p.Port > 65535 {
			errs = append(errs, fmt.Errorf("%s.port %d is outside 1-65535", at, p.Port))
		}
		ports = append(ports, cluster.Port{Name: p.Name, Protocol: protocol, Port: uint16(p.Port)})
	}
	return ports, errors.Join(errs...)
}

func clusterSetIPs(given []string) ([]netip.Addr, error) {
	var ips []netip.Addr
	for i, text := range given {
		ip, err := vip(fmt.Sprintf("spec.ips[%d]", i), text)
		if err != nil {
			return nil, err
		}
		ips = append(ips, ip)
	}
	if len(ips) > 2 || len(ips) == 2 && cluster.FamilyOf(ips[0]) == cluster.FamilyOf(ips[1]) {
		return nil, fmt.Errorf("spec.ips %v: at most one IPv4 and one IPv6 address are allowed", ips)
	}
	return ips, nil
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
		if errs := checkName("label "+mcsv1alpha1.LabelSourceCluster, in); len(errs) > 0 {
			return owner, nil, errs[0]
		}
	}
	endpoints, err := sliceEndpoints(s, in)
	return owner, endpoints, err
}
