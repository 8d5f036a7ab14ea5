package clusterip

import (
	"context"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// companion stands behind the Handler in the chain under the name of CoreDNS's own
// plugin, where k8s_external looks for an Externaler and "autopath @kubernetes"
// for an AutoPather. It answers no queries itself.
type companion struct {
	handler *Handler
	next    plugin.Handler
}

const companionName = "kubernetes"

// accompany puts a companion into the chain, unless the plugin that has the name
// comes next.
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
