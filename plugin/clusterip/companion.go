package clusterip

import (
	"context"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// companion stands behind the Handler in the chain under the name of CoreDNS's own
// plugin. There k8s_external looks for an Externaler, and "autopath @kubernetes" for an
// AutoPather; neither takes another name. It answers no queries itself.
//
// An option of our own would be a second syntax for what k8s_external says already, and
// a copy of that plugin. A Handler called "kubernetes" would be hidden from "autopath
// @clusterip".
type companion struct {
	handler *Handler
	next    plugin.Handler
}

const companionName = "kubernetes"

// accompany puts a companion into the chain, unless CoreDNS's own plugin comes next: that
// keeps its name.
func accompany(h *Handler) plugin.Plugin {
	return func(next plugin.Handler) plugin.Handler {
		if next != nil && next.Name() == companionName {
			return next
		}
		return &companion{h, next}
	}
}

// Name implements plugin.Handler.
func (c *companion) Name() string { return companionName }

// AutoPath implements autopath.AutoPather.
func (c *companion) AutoPath(state request.Request) []string { return c.handler.AutoPath(state) }

// ServeDNS implements plugin.Handler. An error has the name that is in the Corefile.
func (c *companion) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	return plugin.NextOrFailure(pluginName, c.next, ctx, w, r)
}
