package clusterip

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/coredns/coredns/plugin/etcd/msg"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// The methods of external.Externaler, which k8s_external serves a zone from. Keys
// are paths from the root of DNS down, as plugin/etcd/msg has them.

// The last parts of keys by which k8s_external's transfer tells headless records
// apart.
const (
	endpointKey = "endpoint"
	portKey     = "port.protocol"
)

// offer is one way to reach a Service from outside.
type offer struct {
	host     string // an address, or the name of a load balancer
	endpoint string // its label, or "" for the Service itself
	name     string // of the port, or ""
	protocol cluster.Protocol
	port     int // -1 where there is none
}

// matches reports whether the labels before the Service ask for the offer.
func (o *offer) matches(sub []string) bool {
	switch len(sub) {
	case 0:
		return true
	case 1:
		return o.endpoint != "" && sub[0] == o.endpoint
	case 2:
		return zone.ParsePort(sub[0], sub[1]).Matches(o.name, o.protocol)
	}
	return false
}

// External answers for a name in a zone of k8s_external.
func (c *companion) External(state request.Request, headless bool) ([]msg.Service, int) {
	h := c.handler
	if !h.store.HasSynced() {
		return nil, dns.RcodeServerFailure
	}
	if state.QType() == dns.TypePTR {
		if ip, err := netip.ParseAddr(dnsutil.ExtractAddressFromReverse(state.Name())); err == nil {
			return c.reverse(ip)
		}
	}
	base, _ := dnsutil.TrimZone(state.Name(), state.Zone)
	labels := dns.SplitDomainName(base)
	n := len(labels)
	if n == 0 || !h.index.HasNamespace(labels[n-1]) {
		return nil, dns.RcodeNameError
	}
	if n == 1 {
		return nil, dns.RcodeSuccess
	}
	s := h.index.Service(cluster.ServiceName{Namespace: labels[n-1], Name: labels[n-2]})
	if s == nil {
		return nil, dns.RcodeNameError
	}
	sub := labels[:n-2]
	rcode := dns.RcodeNameError
	var found []msg.Service
	for o := range c.asked(s, headless, sub, state.QType() == dns.TypeSRV) {
		if len(sub) == 1 && zone.ParsePort("", sub[0]).Matches(o.name, o.protocol) {
			rcode = dns.RcodeSuccess // a port's name is below
		}
		if o.matches(sub) {
			rcode = dns.RcodeSuccess
			if found = append(found, h.external(state.Zone, s, o)); len(found) == zone.MaxRecords {
				break
			}
		}
	}
	if state.QType() == dns.TypePTR {
		return nil, rcode
	}
	return found, rcode
}

// asked are the offers of a Service that a question about labels before it needs: of
// more hosts, or more endpoints, than an answer holds some that chance has chosen; of a
// port that is named that port alone; and for addresses one port, where there are many.
func (c *companion) asked(s *cluster.Service, headless bool, sub []string, ports bool) iter.Seq[offer] {
	if c.offersEndpoints(s, headless, len(sub) == 1) {
		usable := cluster.Usable(s.Endpoints)
		if len(sub) == 0 {
			usable = zone.Window(usable)
		}
		return c.endpoints(usable, ports || len(sub) > 0)
	}
	hosts, its := zone.Window(s.External.Published), s.Ports
	switch {
	case len(sub) == 1: // no host has a name of its own
		hosts = first(hosts, zone.IsName)
		its = first(its, matching(zone.ParsePort("", sub[0])))
	case len(sub) == 2 && ports:
		which := zone.ParsePort(sub[0], sub[1])
		its = slices.DeleteFunc(slices.Clone(its), func(p cluster.Port) bool { return !which.Matches(p.Name, p.Protocol) })
	case len(sub) == 2:
		its = first(its, matching(zone.ParsePort(sub[0], sub[1])))
	case !ports && len(hosts)*len(its) > zone.MaxRecords:
		its = its[:1]
	}
	return hostOffers(hosts, its)
}

// first returns the first element that is asked for, or none.
func first[T any](all []T, is func(T) bool) []T {
	i := slices.IndexFunc(all, is)
	return all[max(i, 0) : i+1]
}

func matching(which zone.PortPattern) func(cluster.Port) bool {
	return func(p cluster.Port) bool { return which.Matches(p.Name, p.Protocol) }
}

// offers are those of a Service with addresses outside; with headless also the
// endpoints of a headless Service.
func (c *companion) offers(s *cluster.Service, headless bool) iter.Seq[offer] {
	if c.offersEndpoints(s, headless, false) {
		return c.endpoints(cluster.Usable(s.Endpoints), true)
	}
	return hostOffers(s.External.Published, s.Ports)
}

// offersEndpoints says that a Service is reached by its endpoints: if it is headless,
// or has a ClusterIP alone and a single endpoint is asked for.
func (c *companion) offersEndpoints(s *cluster.Service, headless, single bool) bool {
	return headless && (s.Kind == cluster.KindHeadless || single && len(s.External.Published) == 0)
}

// hostOffers are all hosts with all ports. A load balancer whose name DNS cannot hold
// is left out. Of more offers than an answer holds, all but the first address have
// one port: their SRV records lead to the same name.
func hostOffers(hosts []string, ports []cluster.Port) iter.Seq[offer] {
	return func(yield func(offer) bool) {
		many := len(hosts)*len(ports) > zone.MaxRecords
		first := true
		for _, host := range hosts {
			if !zone.IsName(host) {
				continue
			}
			its := ports
			if _, err := netip.ParseAddr(host); many && err == nil {
				if !first {
					its = ports[:1]
				}
				first = false
			}
			for _, p := range its {
				if !yield(offer{host, "", p.Name, p.Protocol, int(p.Port)}) {
					return
				}
			}
		}
	}
}

// endpoints are offers of all endpoints, with all ports or one each.
func (c *companion) endpoints(endpoints []cluster.Endpoint, ports bool) iter.Seq[offer] {
	return func(yield func(offer) bool) {
		for i := range endpoints {
			e := &endpoints[i]
			host, label := e.Addr.String(), c.handler.index.Hostname(e)
			if len(e.Ports()) == 0 && !yield(offer{host: host, endpoint: label, port: -1}) {
				return
			}
			its := e.Ports()
			if !ports {
				its = its[:min(len(its), 1)]
			}
			for _, p := range its {
				if !yield(offer{host, label, p.Name, p.Protocol, int(p.Port)}) {
					return
				}
			}
		}
	}
}

// external returns an offer as k8s_external wants it. An endpoint whose name is too
// long is an address of its Service alone: what has no port gets no SRV record.
func (h *Handler) external(origin string, s *cluster.Service, o offer) msg.Service {
	key := serviceKey(origin, s)
	if o.endpoint != "" {
		if fits(key + "/" + o.endpoint) {
			key += "/" + o.endpoint
		} else {
			o.port = -1
		}
	}
	return msg.Service{Host: o.host, Port: o.port, TTL: h.options.TTL, Key: key}
}

// fits reports whether DNS can hold the name that a key stands for.
func fits(key string) bool { return zone.IsName(msg.Domain(key)) }

func serviceKey(origin string, s *cluster.Service) string {
	return strings.Join([]string{msg.Path(origin, "c"), s.Name.Namespace, s.Name.Name}, "/")
}

func (c *companion) reverse(ip netip.Addr) ([]msg.Service, int) {
	var found []msg.Service
	for _, s := range c.handler.index.Published(ip) {
		host := s.Name.Name + "." + s.Name.Namespace
		if zone.IsName(host + "." + c.handler.outside) {
			found = append(found, msg.Service{Host: host, TTL: c.handler.options.TTL})
		}
	}
	if len(found) == 0 {
		return nil, dns.RcodeNameError
	}
	return found, dns.RcodeSuccess
}

// ExternalAddress returns where this server is found from outside: at the
// addresses of the Services that it is an endpoint of, else at its own.
// k8s_external gives them their name.
func (c *companion) ExternalAddress(state request.Request, headless bool) []dns.RR {
	index := c.handler.index
	services := index.OwnServices()
	if len(services) == 0 {
		return index.AddressRecords(state.Zone, index.Nameservers())
	}
	var ips []netip.Addr
	for _, s := range services {
		for o := range c.offers(s, headless) {
			if ip, err := netip.ParseAddr(o.host); err == nil {
				ips = append(ips, ip)
			}
		}
	}
	return index.AddressRecords(state.Zone, ips)
}

// ExternalServices returns all that a transfer of the zone has: one entry for each
// record, those of headless Services grouped by name. Names that are too long are
// left out: one would break off the transfer.
func (c *companion) ExternalServices(origin string, headless bool) ([]msg.Service, map[string][]msg.Service) {
	var services []msg.Service
	groups := make(map[string][]msg.Service)
	for _, s := range c.handler.index.Services() {
		base := serviceKey(origin, s)
		if !fits(base) {
			continue
		}
		for o := range c.offers(s, headless) {
			entry := c.handler.external(origin, s, o)
			named := entry
			named.Key = base + "/_" + o.protocol.Lower() + "/_" + o.name
			reachable := entry.Port == o.port // an SRV record may lead there
			hasName := zone.IsPortName(o.name) && reachable && fits(named.Key)
			if o.endpoint == "" {
				services = append(services, entry)
				if hasName {
					named.TargetStrip = 2
					services = append(services, named)
				}
				continue
			}
			groups[base+"/"+endpointKey] = append(groups[base+"/"+endpointKey], entry)
			if hasName {
				named.Host = msg.Domain(entry.Key)
				groups[named.Key+"/"+portKey] = append(groups[named.Key+"/"+portKey], named)
			}
		}
	}
	return services, groups
}

// ExternalSerial returns the serial of the zone's SOA.
func (c *companion) ExternalSerial(string) uint32 { return c.handler.serial() }
