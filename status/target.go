package status

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// Target is what an Explanation is asked for. One of Name, Service and At is given.
type Target struct {
	Text    string              // as it was asked for
	Name    string              // of DNS, in lower case; with a dot at its end it is fully qualified
	Service cluster.ServiceName // if it was asked for itself
	// At is an address, and a port or 0. A NodePort is at the unspecified address of IPv4.
	At netip.AddrPort
	// Protocol is 0 if any is meant.
	Protocol cluster.Protocol
}

// Forms are the ways to write a Target.
const Forms = "a name such as web.shop, NAMESPACE/SERVICE, ADDRESS:PORT/PROTOCOL (the protocol, or the port too, may be left out), or a NodePort such as 30080/TCP"

// ParseTarget reads a Target. A number alone is a NodePort, since no Service can be called
// that; what has a slash and is no address is a Service.
func ParseTarget(text string) (Target, error) {
	t := Target{Text: text}
	if text == "" || len(text) > maxTarget || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return t, fmt.Errorf("%.300q is no target: give %s", text, Forms)
	}
	place, protocol, slash := strings.Cut(text, "/")
	if at, ok := parseAt(place); ok {
		t.At = at
		if !slash {
			return t, nil
		}
		var err error
		if t.Protocol, err = cluster.ParseProtocol(strings.ToUpper(protocol)); err != nil || protocol == "" {
			return t, fmt.Errorf("%q: the protocol is TCP, UDP or SCTP, as in %s/TCP", text, place)
		}
		return t, nil
	}
	if slash {
		if place == "" || protocol == "" || strings.Contains(protocol, "/") {
			return t, fmt.Errorf("%q is no target: give %s", text, Forms)
		}
		t.Service = cluster.ServiceName{Namespace: strings.ToLower(place), Name: strings.ToLower(protocol)}
		return t, nil
	}
	if strings.Contains(text, ":") {
		return t, fmt.Errorf("%q is no address with a port: give %s", text, Forms)
	}
	t.Name = strings.ToLower(text)
	return t, nil
}

// maxTarget is longer than any name.
const maxTarget = 300

// parseAt reads an address with or without a port, or a port alone.
func parseAt(text string) (netip.AddrPort, bool) {
	if at, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port()), true
	}
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(addr.Unmap().WithZone(""), 0), true
	}
	port, err := strconv.ParseUint(strings.TrimPrefix(text, ":"), 10, 16)
	return netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)), err == nil && port > 0
}

// isAddress reports whether the target is an address, a NodePort included.
func (t *Target) isAddress() bool { return t.At.IsValid() }

// IsNodePort reports whether the target is a NodePort without an address.
func (t *Target) IsNodePort() bool { return t.At.IsValid() && t.At.Addr().IsUnspecified() }

// takes reports whether a frontend at an address and port is meant.
func (t *Target) takes(at netip.AddrPort, protocol cluster.Protocol) bool {
	return at.Addr() == t.At.Addr() && (t.At.Port() == 0 || at.Port() == t.At.Port()) && (t.Protocol == 0 || protocol == t.Protocol)
}

// Candidates returns the names that a client in a namespace looks up for a name, in that
// order, in clusters of these zones: as pods do, whose resolv.conf has ndots:5 and the
// search path NAMESPACE.svc.ZONE, svc.ZONE, ZONE.
func Candidates(name, namespace string, zones []string) []Name {
	if strings.HasSuffix(name, ".") {
		return []Name{{Name: name, Why: "as written"}}
	}
	var out []Name
	for _, zone := range zones {
		suffix := "." + strings.TrimPrefix(zone, ".")
		for _, s := range []string{"." + namespace + ".svc" + suffix, ".svc" + suffix, suffix} {
			out = append(out, Name{Name: name + s, Why: "search path " + strings.TrimSuffix(strings.TrimPrefix(s, "."), ".")})
		}
	}
	written := Name{Name: name + ".", Why: "as written"}
	if strings.Count(name, ".") >= ndots {
		return append([]Name{written}, out...)
	}
	return append(out, written)
}

// ndots is how many dots a name has that pods look up as it is first (kubelet).
const ndots = 5

// ServiceIn returns the Service that a name in a zone is of, and what stands before it.
func ServiceIn(name, zone string) (of cluster.ServiceName, before string, ok bool) {
	relative, in := strings.CutSuffix(name, "."+zone)
	if zone == "." {
		relative, in = strings.CutSuffix(name, ".")
	}
	labels := strings.Split(relative, ".")
	n := len(labels)
	if !in || n < 3 || labels[n-1] != "svc" {
		return of, "", false
	}
	return cluster.ServiceName{Namespace: labels[n-2], Name: labels[n-3]}, strings.Join(labels[:n-3], "."), true
}
