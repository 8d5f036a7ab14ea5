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
	// Port is that of the Service, where a Name or a Service was asked for with one; else 0.
	Port uint16
	// Protocol is 0 if any is meant.
	Protocol cluster.Protocol
}

// Forms are the ways to write a Target.
const Forms = "a name such as web.shop, NAMESPACE/SERVICE, either with :PORT/PROTOCOL behind it, a URL such as http://web.shop, ADDRESS:PORT/PROTOCOL (the protocol, or the port too, may be left out), or a NodePort such as 30080/TCP"

// ParseTarget reads a Target. A number alone is a NodePort, since no Service can be called
// that; what has a slash and is no address is a Service.
func ParseTarget(text string) (Target, error) {
	t := Target{Text: text}
	if text == "" || len(text) > maxTarget || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return t, fmt.Errorf("%.300q is no target: give %s", text, Forms)
	}
	if scheme, rest, is := strings.Cut(text, "://"); is {
		err := t.parseURL(scheme, rest)
		return t, err
	}
	place, protocol, slash := strings.Cut(text, "/")
	if at, ok := parseAt(place); ok {
		t.At = at
		err := t.parseProtocol(protocol, slash)
		return t, err
	}
	host, after, hasPort := strings.Cut(text, ":")
	if hasPort {
		port, protocol, slash := strings.Cut(after, "/")
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return t, fmt.Errorf("%q has no port of 1 to 65535 behind the colon: give %s", text, Forms)
		}
		if t.Port, err = uint16(number), t.parseProtocol(protocol, slash); err != nil {
			return t, err
		}
	}
	namespace, name, slash := strings.Cut(host, "/")
	switch {
	case host == "" || slash && (namespace == "" || name == "" || strings.Contains(name, "/")):
		return t, fmt.Errorf("%q is no target: give %s", text, Forms)
	case slash:
		t.Service = cluster.ServiceName{Namespace: strings.ToLower(namespace), Name: strings.ToLower(name)}
	default:
		t.Name = strings.ToLower(host)
	}
	return t, nil
}

// parseProtocol reads what stands behind a slash, if there is one.
func (t *Target) parseProtocol(text string, given bool) (err error) {
	if !given {
		return nil
	}
	if t.Protocol, err = cluster.ParseProtocol(strings.ToUpper(text)); err != nil || text == "" {
		return fmt.Errorf("%q: the protocol is TCP, UDP or SCTP, as in %s/TCP", t.Text, strings.TrimSuffix(t.Text, "/"+text))
	}
	return nil
}

// schemePorts are the ports of URLs without one.
var schemePorts = map[string]uint16{"http": 80, "https": 443}

// parseURL takes of a URL where a client connects to.
func (t *Target) parseURL(scheme, rest string) error {
	port, known := schemePorts[strings.ToLower(scheme)]
	if !known {
		return fmt.Errorf("%q: of URLs those with http and https are known: give HOST:PORT/PROTOCOL", t.Text)
	}
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		rest = rest[:end]
	}
	of, err := ParseTarget(rest[strings.LastIndex(rest, "@")+1:])
	switch {
	case err != nil || of.IsNodePort():
		return fmt.Errorf("%q has no host that can be asked for: give %s", t.Text, Forms)
	case !of.isAddress() && of.Port == 0:
		of.Port = port
	case of.isAddress() && of.At.Port() == 0:
		of.At = netip.AddrPortFrom(of.At.Addr(), port)
	}
	of.Text, of.Protocol = t.Text, cluster.TCP
	*t = of
	return nil
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

// hasPort reports whether a port of a Service is meant by a Target that is no address.
func (t *Target) hasPort(port uint16, protocol cluster.Protocol) bool {
	return (t.Port == 0 || t.Port == port) && (t.Protocol == 0 || t.Protocol == protocol)
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
