package clusterip

import (
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/plugin/clusterip/wire"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/acl"
	"github.com/coredns/coredns/plugin/bufsize"
	"github.com/coredns/coredns/plugin/hosts"
	external "github.com/coredns/coredns/plugin/k8s_external"
	"github.com/coredns/coredns/plugin/loadbalance"
	logger "github.com/coredns/coredns/plugin/log"
	"github.com/coredns/coredns/plugin/metrics"
	"github.com/coredns/coredns/plugin/pkg/edns"
	"github.com/coredns/coredns/plugin/pkg/response"
)

// lane is what the fast path knows of a server block: the Handler, and what plugins in
// front of it do to a query or a reply.
type lane struct {
	handler *Handler
	shuffle bool   // as loadbalance does
	size    uint16 // that replies are clamped to, as bufsize does; 0 is none
	acl     []aclRule
	hosts   *hosts.Hosts // whose names are not ours
	search  *search      // as autopath does; nil is none
	meter   *meter       // as prometheus does; nil is none
}

// front says of a plugin in front of ours what it means for a lane. It is not empty, and
// says why and what mends that, where only the plugin chain can do what the plugin does.
type front func(l *lane, config *dnsserver.Config, h plugin.Handler) (why string)

// fronts are those that are known, by their name in the chain. Any other keeps the fast
// path off.
var fronts = map[string]front{
	// These neither need the queries that the fast path takes nor change the replies.
	"metadata": harmless, // for plugins that keep the fast path off themselves
	"cancel":   harmless,
	"errors":   harmless,
	"chaos":    harmless, // for class CH
	"any":      harmless, // for type ANY
	"cache":    harmless,
	"transfer": harmless,

	"prometheus":   (*lane).behindPrometheus,
	"bufsize":      (*lane).behindBufsize,
	"loadbalance":  (*lane).behindLoadbalance,
	"log":          (*lane).behindLog,
	"acl":          (*lane).behindACL,
	"hosts":        (*lane).behindHosts,
	"k8s_external": (*lane).behindExternal,
	"autopath":     (*lane).behindAutopath,
}

// harmless takes CoreDNS's own: another may have the same name.
func harmless(_ *lane, _ *dnsserver.Config, h plugin.Handler) string {
	t := reflect.TypeOf(h)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if !strings.HasPrefix(t.PkgPath(), "github.com/coredns/coredns/plugin/") {
		return unknown
	}
	return ""
}

// noteFronts has the chain note which plugins are in front of the Handler: all that are in
// a Config's list when CoreDNS comes to our directive. A plugin's name in the chain may be
// another than that of its directive, and CoreDNS finds none by its directive then.
func (h *Handler) noteFronts(config *dnsserver.Config) {
	for i, put := range config.Plugin {
		config.Plugin[i] = func(next plugin.Handler) plugin.Handler {
			made := put(next)
			h.inFront = slices.Insert(h.inFront, 0, made) // the chain is made from its end
			return made
		}
	}
}

// newLane returns the lane of a server block or, if it can have none, why, with the mend.
func newLane(h *Handler, config *dnsserver.Config) (l *lane, why string) {
	switch {
	case config.ViewName != "" || len(config.FilterFuncs) > 0:
		return nil, "view chooses among server blocks: take it out of this one"
	case config.ProxyProtoConnPolicy != nil: // also in ownSocket, but "fastpath on" must not start
		return nil, "proxyproto changes what a packet is: take it out, or give it a server block with an address of its own"
	case slices.ContainsFunc(wire.Ignored[:], edns.SupportedOption):
		return nil, "a plugin answers an option of EDNS: take out nsid or what else does"
	}
	l = &lane{handler: h}
	for _, other := range h.inFront {
		if other == plugin.Handler(h) {
			continue // what has put nothing there
		}
		name := other.Name()
		known := fronts[name]
		if known == nil {
			return nil, fmt.Sprintf("the plugin %s is in front of it: take it out, or move it to a server block without clusterip", name)
		}
		if why := known(l, config, other); why != "" {
			return nil, fmt.Sprintf("the plugin %s is in front of it and %s", name, why)
		}
	}
	return l, ""
}

// countAt has answers counted as those of a server.
func (l *lane) countAt(server string) {
	if l.meter != nil {
		l.meter.server = server
	}
	if l.search != nil {
		l.search.countAt(server)
	}
}

// leaves says why a question in our zones is for the plugin chain all the same, or "".
func (l *lane) leaves(q *wire.Question, from netip.AddrPort) string {
	if l.acl != nil && !allows(l.acl, q, from.Addr()) {
		return "acl"
	}
	if l.hosts != nil && inHosts(l.hosts, q.Name) {
		return "hosts"
	}
	return ""
}

func (l *lane) behindPrometheus(_ *dnsserver.Config, h plugin.Handler) string {
	m, ok := h.(*metrics.Metrics)
	if !ok {
		return unknown
	}
	l.meter = newMeter(m)
	return ""
}

// unknown is said of a plugin that is not as it was when this was written.
const unknown = "is not the one that is known: build with the version of CoreDNS that go.mod names"

func (l *lane) behindBufsize(_ *dnsserver.Config, h plugin.Handler) string {
	b, ok := h.(bufsize.Bufsize)
	if !ok {
		return unknown
	}
	l.size = uint16(b.Size)
	return ""
}

// behindLoadbalance takes the policy round_robin alone. A handler does not tell its policy,
// but the function that it shuffles with has a name.
func (l *lane) behindLoadbalance(_ *dnsserver.Config, h plugin.Handler) string {
	if _, ok := h.(loadbalance.LoadBalance); !ok {
		return unknown
	}
	field := reflect.ValueOf(h).FieldByName("shuffle")
	if field.Kind() != reflect.Func {
		return unknown
	}
	if f := runtime.FuncForPC(field.Pointer()); f == nil || !strings.HasSuffix(f.Name(), ".randomShuffle") {
		return "has another policy than round_robin: give it that, or take it out"
	}
	l.shuffle = true
	return ""
}

// behindLog takes rules that log errors alone: the fast path makes none.
func (l *lane) behindLog(_ *dnsserver.Config, h plugin.Handler) string {
	logs, ok := h.(logger.Logger)
	if !ok {
		return unknown
	}
	for _, rule := range logs.Rules {
		for class := range rule.Class {
			if class != response.Error {
				return "logs more than class error: write class error into its block, or take it out"
			}
		}
	}
	return ""
}

func (l *lane) behindACL(_ *dnsserver.Config, h plugin.Handler) string {
	a, ok := h.(acl.ACL)
	if !ok {
		return unknown
	}
	if l.acl, ok = readACL(a); !ok {
		return unknown
	}
	return ""
}

// behindHosts takes a file whose other names fall through to us.
func (l *lane) behindHosts(_ *dnsserver.Config, h plugin.Handler) string {
	file, ok := h.(hosts.Hosts)
	if !ok {
		return unknown
	}
	for _, z := range l.handler.options.Zones {
		if !slices.ContainsFunc(file.Fall.Zones, func(through string) bool { return zone.Contains(through, z) }) {
			return fmt.Sprintf("does not fall through for %s: write fallthrough into its block", z)
		}
	}
	l.hosts = &file
	return ""
}

// behindExternal takes zones that have none of ours in them and are in none of ours.
func (l *lane) behindExternal(_ *dnsserver.Config, h plugin.Handler) string {
	e, ok := h.(*external.External)
	if !ok {
		return unknown
	}
	for _, outside := range e.Zones {
		for _, z := range l.handler.options.Zones {
			if zone.Contains(outside, z) || zone.Contains(z, outside) {
				return fmt.Sprintf("its zone %s meets %s: give it one that is apart", outside, z)
			}
		}
	}
	return ""
}

// inHosts reports whether a hosts file has something at a name.
func inHosts(file *hosts.Hosts, name string) bool {
	if len(file.LookupStaticHostV4(name)) > 0 || len(file.LookupStaticHostV6(name)) > 0 {
		return true
	}
	ip, ok := zone.ReverseAddress(name)
	return ok && len(file.LookupStaticAddr(ip.String())) > 0
}
