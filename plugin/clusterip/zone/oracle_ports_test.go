package zone_test

import (
	"fmt"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// portSpellings returns the names of a port: as in the specification, without underscores,
// and with an underscore alone for any name or protocol.
func portSpellings(name string, protocol cluster.Protocol, base string) []string {
	var out []string
	for _, port := range []string{"_" + name, name, "_"} {
		for _, transport := range []string{"_" + protocol.Lower(), protocol.Lower(), "_"} {
			if owner := port + "." + transport + "." + base; port != "" && !slices.Contains(out, owner) {
				out = append(out, owner)
			}
		}
	}
	return out
}

// portLines returns what is answered at the names of ports, which is more than a transfer
// has: all spellings of them, and the addresses.
func (w *world) portLines(s *cluster.Service) []line {
	base := fmt.Sprintf("%s.%s.svc.%s", s.Name.Name, s.Name.Namespace, origin)
	usable := cluster.Usable(s.Endpoints)
	var out []line
	srv := make(map[string][]string)
	for _, l := range w.lines(s) { // any port of any protocol is as good as the Service
		if l.owner == base {
			out = append(out, line{"_._." + base, l.qtype, "_._." + l.text})
		}
	}
	switch {
	case s.Kind == cluster.KindClusterIP && !(w.options.IgnoreEmpty && len(usable) == 0):
		for _, ip := range s.ClusterIPs {
			for _, p := range s.Ports {
				for _, owner := range portSpellings(p.Name, p.Protocol, base) {
					out = append(out, w.addressLine(owner, ip))
					srv[owner] = append(srv[owner], fmt.Sprintf("%d %s", p.Port, base))
				}
			}
		}
	case s.Kind == cluster.KindHeadless:
		for _, e := range usable {
			for _, p := range e.Ports() {
				for _, owner := range portSpellings(p.Name, p.Protocol, base) {
					out = append(out, w.addressLine(owner, e.Addr))
					srv[owner] = append(srv[owner], fmt.Sprintf("%d %s.%s", p.Port, w.hostname(e), base))
				}
			}
		}
	}
	return append(out, w.srvLines(srv)...)
}

// srvLines returns records of which each has the port and the target, by owner.
func (w *world) srvLines(srv map[string][]string) []line {
	var out []line
	for owner, all := range srv {
		for _, data := range all {
			out = append(out, w.line(owner, "SRV", fmt.Sprintf("0 %d %s", max(100/len(all), 1), data)))
		}
	}
	return out
}
