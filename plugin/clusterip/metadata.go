package clusterip

import (
	"context"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin/metadata"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// Metadata implements metadata.Provider. The labels have the names that CoreDNS's
// kubernetes plugin gives them, so that a Corefile with rewrite, log or view
// means the same; only the metadata plugin calls it.
func (h *Handler) Metadata(ctx context.Context, state request.Request) context.Context {
	set := func(label, value string) {
		metadata.SetValueFunc(ctx, "kubernetes/"+label, func() string { return value })
	}
	h.describeClient(state, set)
	name := state.Name()
	z := h.index.Match(name)
	if z == nil {
		return ctx
	}
	multicluster := slices.Contains(h.options.Multicluster, z.Origin())
	q, ok := parseQuestion(z.Relative(name), h.options.Zonal && !multicluster, multicluster)
	if !ok {
		set("parse-error", "invalid query name")
		return ctx
	}
	set("port-name", q.port)
	set("protocol", q.protocol)
	set("endpoint", q.endpoint)
	set("service", q.service)
	set("namespace", q.namespace)
	set("kind", q.kind)
	if multicluster {
		set("cluster", q.cluster)
	}
	if h.options.Zonal {
		set("zone", q.topology)
	}
	return ctx
}

// describeClient says of the client what holds for all pods that it may be.
func (h *Handler) describeClient(state request.Request, set func(label, value string)) {
	pods := h.clients(state)
	if len(pods) == 0 {
		return
	}
	for _, pod := range pods[1:] {
		if pod.Name.Namespace != pods[0].Name.Namespace {
			return
		}
	}
	set("client-namespace", pods[0].Name.Namespace)
	if len(pods) > 1 {
		return
	}
	set("client-pod-name", pods[0].Name.Name)
	for key, value := range pods[0].Labels {
		set("client-label/"+key, value)
	}
}

// question is what a name asks for, by its form alone.
type question struct {
	port, protocol, endpoint, cluster, topology, service, namespace, kind string
}

// parseQuestion takes a name relative to its zone apart. It is not ok for a name
// that no Service or pod can have; in a multicluster zone endpoints have the name of
// their cluster behind theirs. The zone, "svc" and "pod" ask for nothing.
func parseQuestion(relative string, zonal, multicluster bool) (q question, ok bool) {
	labels := dns.SplitDomainName(relative)
	n := len(labels)
	if n == 0 || n == 1 && (relative == "svc" || relative == "pod") {
		return q, true
	}
	q.kind = labels[n-1]
	if q.kind != "svc" && q.kind != "pod" {
		return question{}, false
	}
	q.namespace = labels[n-2]
	if n > 2 {
		q.service = labels[n-3]
	}
	switch sub := labels[:max(n-3, 0)]; {
	case len(sub) == 0:
	case len(sub) == 1:
		q.endpoint = sub[0]
	case len(sub) == 2 && multicluster && sub[0][0] != '_' && sub[1][0] != '_':
		q.endpoint, q.cluster = sub[0], sub[1]
	case len(sub) == 2:
		q.port, q.protocol = strings.TrimPrefix(sub[0], "_"), strings.TrimPrefix(sub[1], "_")
	default:
		return q, zonal && q.parseTopology(sub)
	}
	return q, true
}

// parseTopology reads what stands before the Service in a zonal name.
func (q *question) parseTopology(labels []string) bool {
	n := len(labels)
	if q.kind != "svc" || labels[n-1] != "_zone" || labels[n-2] != "pin" && labels[n-2] != "prefer" {
		return false
	}
	q.topology = strings.Join(labels[:n-2], ".")
	return true
}
