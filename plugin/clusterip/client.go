package clusterip

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// clients returns the pods that a query may come from: several if pods share the
// address of their node, none if it is not a pod's or pods are not verified.
func (h *Handler) clients(state request.Request) []*cluster.Pod {
	ip, err := netip.ParseAddr(state.IP())
	if err != nil {
		return nil
	}
	return h.index.Pods(ip.Unmap().WithZone(""))
}

// AutoPath implements autopath.AutoPather. It returns the search path of the
// namespace that the name asked for lies in, if a pod of that namespace may be
// asking, and nil otherwise. To go by the name and not by the first pod that has
// the address is what serves the pods that share their node's.
func (h *Handler) AutoPath(state request.Request) []string {
	name := state.Name()
	z := h.index.Match(name)
	if z == nil {
		return nil
	}
	namespace, ok := h.searched(z, name, h.clients(state))
	if !ok {
		return nil
	}
	svc := "svc."
	if z.Origin() != "." {
		svc += z.Origin()
	}
	path := append([]string{namespace + "." + svc, svc, z.Origin()}, h.search...)
	return append(path, "") // the name by itself: what autopath wants for an end
}

// searched returns the namespace whose search path a name ends in, if a pod of it is among
// those that may be asking, and something is left of the name without it.
func (h *Handler) searched(z *zone.Zone, name string, clients []*cluster.Pod) (namespace string, ok bool) {
	if zone.IsReverse(z.Origin()) {
		return "", false
	}
	base, ok := strings.CutSuffix(z.Relative(name), ".svc")
	dot := strings.LastIndexByte(base, '.')
	if !ok || dot < 0 {
		return "", false
	}
	namespace = base[dot+1:]
	return namespace, slices.ContainsFunc(clients, func(p *cluster.Pod) bool { return p.Name.Namespace == namespace })
}

// hostSearchPath is where this machine looks for names: what kubelet appends to
// the search path of pods.
func hostSearchPath(resolvConf string) []string {
	config, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil // as a pod without one
	}
	var path []string
	for _, domain := range config.Search {
		path = append(path, zone.Lower(dns.Fqdn(domain)))
	}
	return path
}
