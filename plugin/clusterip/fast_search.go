package clusterip

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"

	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/autopath"
	"github.com/prometheus/client_golang/prometheus"
)

// search is what the autopath plugin does: where a name does not exist that ends in the
// first domain of the client's search path, it tries the others.
type search struct {
	zones  []string
	static []string               // the path of all clients; nil where it is that of their pods
	server string                 // that answers are counted for
	counts *prometheus.CounterVec // of the plugin
}

// behindAutopath takes a path from a file, and that of pods, which is ours.
func (l *lane) behindAutopath(config *dnsserver.Config, h plugin.Handler) string {
	a, ok := h.(*autopath.AutoPath)
	if !ok {
		return unknown
	}
	v := reflect.ValueOf(a).Elem()
	function, static := v.FieldByName("searchFunc"), v.FieldByName("search")
	if function.Kind() != reflect.Func || static.Kind() != reflect.Slice {
		return unknown
	}
	l.search = &search{zones: a.Zones}
	if function.IsNil() && static.Len() > 0 {
		for i := range static.Len() {
			l.search.static = append(l.search.static, static.Index(i).String())
		}
		return ""
	}
	for _, other := range config.Handlers() {
		switch other.(type) {
		case *Handler, *companion:
		case autopath.AutoPather:
			return fmt.Sprintf("may have the search path of %s: move that plugin to a server block of its own", other.Name())
		}
	}
	if function.IsNil() {
		l.search = nil // it has found nobody who knows a path, or has not looked yet, and searches nothing
	}
	return ""
}

// countAt has answers counted where the autopath plugin counts its own, which it does not
// show: who registers the same counter is told of the one that is there.
func (s *search) countAt(server string) {
	same := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace, Subsystem: "autopath", Name: "success_total", Help: "Counter of requests that did autopath.",
	}, []string{"server"})
	if there, ok := errors.AsType[prometheus.AlreadyRegisteredError](prometheus.Register(same)); ok {
		s.counts, _ = there.ExistingCollector.(*prometheus.CounterVec)
	}
	s.server = server
}

// found counts an answer to a client that has a path.
func (s *search) found() {
	if s.counts != nil {
		s.counts.WithLabelValues(s.server).Inc()
	}
}

// path returns the search path of who asks, if the name asked for ends in its first domain.
// It goes no further than to where the names of our zones end: from there on the plugin
// itself searches. Buffer has room for what is not kept.
func (s *search) path(h *Handler, z *zone.Zone, name string, from netip.AddrPort, buffer *[3]string) []string {
	if !slices.ContainsFunc(s.zones, func(of string) bool { return zone.Contains(of, name) }) {
		return nil
	}
	if s.static != nil {
		if zone.Contains(s.static[0], name) {
			return s.static
		}
		return nil
	}
	namespace, ok := h.searched(z, name, h.index.Pods(from.Addr().Unmap().WithZone("")))
	if !ok {
		return nil
	}
	svc := name[len(name)-len("svc.")-len(z.Origin()):]
	*buffer = [3]string{name[len(name)-len(svc)-len(namespace)-1:], svc, z.Origin()}
	return buffer[:]
}

// next looks in the other domains of a path for a name that does not exist in the first.
// It is false if it is not found in this zone.
func (s *search) next(h *Handler, z *zone.Zone, name string, qtype uint16, path []string, buffer []byte) (hit zone.Hit, target []byte, ok bool) {
	cut := len(name) - len(path[0])
	if cut == 0 {
		return hit, nil, false
	}
	for _, domain := range path[1:] {
		target = append(append(buffer[:0], name[:cut]...), domain...)
		if len(target) > wire.MaxName || h.index.Match(nameIn(target)) != z {
			return hit, nil, false
		}
		hit = z.Find(nameIn(target), qtype)
		switch {
		case hit.Outcome != zone.NXDomain:
			return hit, target, true
		case h.through(nameIn(target)):
			return hit, nil, false
		}
	}
	return hit, nil, false
}
