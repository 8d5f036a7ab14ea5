package netfilter

import (
	"os"
	"strings"
)

// SetRouteLocalnet sets whether packets to and from 127.0.0.0/8 may leave the loopback
// interface (ip-sysctl: route_localnet), which NodePorts at 127.0.0.1 need. Whoever sets
// it keeps such packets of others out by a rule.
func SetRouteLocalnet(on bool) error {
	const file = "/proc/sys/net/ipv4/conf/all/route_localnet"
	value := "0"
	if on {
		value = "1"
	}
	if now, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(now)) == value {
		return nil
	}
	return os.WriteFile(file, []byte(value), 0)
}

// ConntrackLiberal reports whether the kernel lets TCP packets outside the window
// count as part of their connection (nf_conntrack-sysctl: nf_conntrack_tcp_be_liberal).
func ConntrackLiberal() bool {
	value, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal")
	return err == nil && strings.TrimSpace(string(value)) == "1"
}
