package zone

import (
	"net/netip"
	"strings"

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

// clusterIPs adds the records of the virtual addresses: A, AAAA, PTR, and SRV
// for every port. A Service that is ignored for want of endpoints keeps its
// PTR, as in CoreDNS: the address is still its own.
func (b *builder) clusterIPs() {
	ignored := b.options.IgnoreEmpty && len(cluster.Usable(b.service.Endpoints)) == 0
	var found srvs
	for _, ip := range b.service.ClusterIPs {
		b.pointer(ip, "", true)
		if ignored {
			continue
		}
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

// endpoints adds a name for every one of the usable endpoints, with A, AAAA, SRV
// and PTR records. Those of a headless Service are the Service's own records too.
func (b *builder) endpoints(usable []cluster.Endpoint) {
	headless := b.service.Kind == cluster.KindHeadless
	var found srvs
	for _, e := range usable {
		host := hostname(&e, b.options.EndpointPodNames)
		b.address(host, e.Addr)
		b.pointer(e.Addr, host, false)
		if headless {
			b.address("", e.Addr)
		}
		for _, p := range e.Ports {
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
// are none: for an unnamed port, and for a name of 63 characters, which the
// underscore makes too long.
func portName(name string, protocol cluster.Protocol) string {
	if !isLabel(name) || len(name)+1 > maxLabel {
		return ""
	}
	return "_" + name + "._" + protocol.Lower()
}

// hostname is the label of an endpoint below its Service: its hostname, else the
// name of its pod if asked for, else its address with dashes.
func hostname(e *cluster.Endpoint, podNames bool) string {
	if e.Hostname != "" {
		return e.Hostname
	}
	if podNames && isLabel(e.PodName) {
		return e.PodName
	}
	return dashed(e.Addr)
}

// dashed spells an address as a label. A label must not end in a dash, so
// "2001:db8::" becomes "2001-db8--0".
func dashed(ip netip.Addr) string {
	label := strings.Map(func(r rune) rune {
		if r == '.' || r == ':' {
			return '-'
		}
		return r
	}, ip.String())
	if strings.HasSuffix(label, "-") {
		label += "0"
	}
	return label
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
