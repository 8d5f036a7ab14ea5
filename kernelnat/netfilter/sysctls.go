package netfilter

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const routeLocalnet = "/proc/sys/net/ipv4/conf/all/route_localnet"

// SetRouteLocalnet sets whether packets to and from 127.0.0.0/8 may leave the loopback
// interface (ip-sysctl: route_localnet), which NodePorts at 127.0.0.1 need. Whoever sets
// it keeps such packets of others out by a rule.
func SetRouteLocalnet(on bool) error {
	value := "0"
	if on {
		value = "1"
	}
	if now, err := os.ReadFile(routeLocalnet); err == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	return os.WriteFile(routeLocalnet, []byte(value), 0)
}

// MayRouteLocalnet reports whether SetRouteLocalnet(true) would succeed, and changes nothing.
func MayRouteLocalnet() bool {
	now, err := os.ReadFile(routeLocalnet)
	return err == nil && (strings.TrimSpace(string(now)) == "1" || unix.Access(routeLocalnet, unix.W_OK) == nil)
}

// ConntrackLiberal reports whether the kernel lets TCP packets outside the window
// count as part of their connection (nf_conntrack-sysctl: nf_conntrack_tcp_be_liberal).
func ConntrackLiberal() bool {
	value, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
	return err == nil && strings.TrimSpace(string(value)) == "1"
}
