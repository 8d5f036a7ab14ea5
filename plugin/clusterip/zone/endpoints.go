package zone

import (
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/miekg/dns"
)

// srv is one of the SRV records of a name.
type srv struct {
	target string // relative to the Service
	port   uint16
}

// srvs collects SRV records by name. A record that is there twice counts twice
// for the weight, as in CoreDNS.
type srvs struct {
	order  []string
	byName map[string][]srv
}

func (s *srvs) add(name string, r srv) {
	if s.byName == nil {
		s.byName = make(map[string][]srv)
	}
	if _, known := s.byName[name]; !known {
		s.order = append(s.order, name)
	}
	s.byName[name] = append(s.byName[name], r)
}

// clusterIPs adds the records of the virtual addresses: A, AAAA, and SRV for every
// port. A Service that is ignored for want of endpoints keeps its PTR, as in
// CoreDNS: the address is still its own.
func (b *builder) clusterIPs() {
	if b.options.IgnoreEmpty && len(cluster.Usable(b.service.Endpoints)) == 0 {
		return
	}
	var found srvs
	for _, ip := range b.service.ClusterIPs {
		b.address("", ip)
		for _, p := range b.service.Ports {
			found.add("", srv{"", p.Port})
			if name := portName(p.Name, p.Protocol); name != "" {
				found.add(name, srv{"", p.Port})
			}
		}
	}
	b.addServices(found)
}

// endpoints adds a name for every one of the usable endpoints, with A, AAAA and SRV
// records, and returns the full names. The records of a headless Service are at the
// Service's own name too.
func (b *builder) endpoints(usable []cluster.Endpoint) (full []string) {
	headless := b.service.Kind == cluster.KindHeadless
	var found srvs
	for _, e := range usable {
		host := hostname(&e, b.options.EndpointPodNames)
		b.address(host, e.Addr)
		full = append(full, b.fullName(host))
		if headless {
			b.address("", e.Addr)
		}
		for _, p := range e.Ports() {
			found.add(host, srv{host, p.Port})
			if !headless {
				continue
			}
			found.add("", srv{host, p.Port})
			if name := portName(p.Name, p.Protocol); name != "" {
				found.add(name, srv{host, p.Port})
			}
		}
	}
	b.addServices(found)
	return slices.Clip(full)
}

// addServices adds SRV records, with priority 0 and equal weights that come to
// about 100.
func (b *builder) addServices(found srvs) {
	for _, name := range found.order {
		all := found.byName[name]
		weight := uint16(max(100/len(all), 1))
		for _, r := range all {
			target := b.fullName(r.target)
			if target == "" {
				continue
			}
			b.add(record{ownerType: ownerType{name, dns.TypeSRV}, target: r.target, port: r.port},
				&dns.SRV{Weight: weight, Port: r.port, Target: target})
		}
	}
}

// portName is the pair of labels that stands for a named port, or "" if there
// are none.
func portName(name string, protocol cluster.Protocol) string {
	if !IsPortName(name) {
		return ""
	}
	return "_" + name + "._" + protocol.Lower()
}

// IsPortName reports whether a port has a name in DNS: not if it is unnamed, nor if
// its name has 63 characters, which the underscore makes too long.
func IsPortName(name string) bool { return isLabel(name) && len(name)+1 <= maxLabel }

// hostname is the name of an endpoint below its Service: its label, and behind it
// its cluster, if it has one, since clusters may have endpoints of the same name.
func hostname(e *cluster.Endpoint, podNames bool) string {
	var b [maxName]byte
	return string(appendHostname(b[:0], e, podNames))
}

func appendHostname(b []byte, e *cluster.Endpoint, podNames bool) []byte {
	b = appendLabel(b, e, podNames)
	if in := e.Cluster(); in != "" {
		b = append(append(b, '.'), in...)
	}
	return b
}

// appendLabel appends the hostname of an endpoint, else the name of its pod if asked
// for, else its address with dashes.
func appendLabel(b []byte, e *cluster.Endpoint, podNames bool) []byte {
	if e.Hostname != "" {
		return append(b, e.Hostname...)
	}
	if podNames && isLabel(e.PodName) {
		return append(b, e.PodName...)
	}
	return appendDashed(b, e.Addr)
}

// appendDashed spells an address as a label. A label must not end in a dash, so
// "2001:db8::" becomes "2001-db8--0".
func appendDashed(b []byte, ip netip.Addr) []byte {
	from := len(b)
	b = ip.AppendTo(b)
	for i := from; i < len(b); i++ {
		if b[i] == '.' || b[i] == ':' {
			b[i] = '-'
		}
	}
	if b[len(b)-1] == '-' {
		b = append(b, '0')
	}
	return b
}

// isLabel reports whether s is a label of lower-case letters, digits and dashes.
// Names of pods may have dots, and names of ports in hand-made EndpointSlices
// anything.
func isLabel(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != "" && len(s) <= maxLabel
}
