package kubernetes

import (
	"fmt"
	"strings"
)

// The values that fields are given: sound ones, those at the bounds of what is sound, and bad
// ones.
var (
	wrongTypes = values(5, true, []any{"a"}, map[string]any{"a": "b"})

	names = values("web", "Web", "web.", ".web", "-web", "web-", "1web", "0", "w_b", "w b", "web.shop", "web..shop", "", "ü", "*", "a/b", "a:b",
		strings.Repeat("a", 63), strings.Repeat("a", 64), long(253), long(254), nil, absent{})

	labelKeys = values(map[string]any{"app": "web"}, map[string]any{"example.com/app": "web"}, map[string]any{"Example.com/app": "web"},
		map[string]any{"a b": "web"}, map[string]any{"": "web"}, map[string]any{"a/b/c": "web"}, map[string]any{"/a": "web"}, map[string]any{"_a": "web"},
		map[string]any{"a": ""}, map[string]any{"a": "Web_1.x-y"}, map[string]any{"a": "-web"}, map[string]any{"a": "web "}, map[string]any{"a": "a/b"},
		map[string]any{"a": strings.Repeat("a", 63)}, map[string]any{"a": strings.Repeat("a", 64)}, map[string]any{strings.Repeat("a", 64): ""},
		map[string]any{"a": 5}, map[string]any{"a": nil}, map[string]any{}, nil, absent{})

	annotations = values(map[string]any{"a": "any text, of any length\n"}, map[string]any{"a b": ""}, map[string]any{"Example.com/App": ""}, map[string]any{"": ""},
		map[string]any{"a/b/c": ""}, map[string]any{"a": strings.Repeat("a", 256<<10)}, map[string]any{"a": 5}, map[string]any{"a": nil}, nil)

	ips = values("10.43.7.2", "10.42.0.9", "192.0.2.1", "10.43.0.0", "10.43.255.255", "010.43.007.003", "::ffff:10.43.7.4", "fd00:10:43::7", "FD00:10:43::0008", "fd00:10:43:0:0::9",
		"2001:db8::1", "2001:DB8::1", "2001:db8:0:0:0:0:0:1", "None", "none", "127.0.0.1", "0.0.0.0", "0.0.0.1", "240.0.0.1", "169.254.1.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0",
		"ff02::1", "ff05::1", "10.43.7", "10.43.7.1/32", "0x0a.43.7.1", "host", "10.43.7.1.5", " 10.43.7.9", "10.43.7.9 ", "10.43.7.256", "", nil, absent{})

	cidrs = values("192.0.2.0/24", "192.0.2.1/24", " 192.0.2.0/24 ", "0.0.0.0/0", "::/0", "2001:db8::/32", "2001:DB8::/32", "192.0.2.0", "192.0.2.0/33", "192.0.2.0/-1", "192.0.2.0/024", "192.0.02.0/24",
		"::ffff:192.0.2.0/120", "2001:db8::/129", "192.0.2/24", "fe80::%eth0/64", "any", "", nil)

	ports = values(-1, 0, 1, 80, 8080, 65535, 65536, 1<<31-1, 1<<31, "80", "http", 1.5, nil, absent{})

	nodePorts = values(-1, 0, 1, 80, 29999, 30000, 30090, 32767, 32768, 65535, 65536, "30090", nil, absent{})

	targetPorts = values(0, 1, 8080, 65535, 65536, -1, "http", "HTTP", "", "1", "80", "a-b", "a--b", "-a", "a-", "a_b", "a b", "abcdefghijklmno", "abcdefghijklmnop", "a.b", nil, absent{})

	portNames = values("http", "HTTP", "", "1", "80", "a-b", "a--b", "-a", "a-", "a_b", "a b", "a.b", "abcdefghijklmno", "abcdefghijklmnop", strings.Repeat("a", 63), strings.Repeat("a", 64), "second", nil, absent{})

	protocols = values("TCP", "UDP", "SCTP", "tcp", "ICMP", "", " TCP", nil, absent{})

	families = values([]any{}, []any{"IPv4"}, []any{"IPv6"}, []any{"IPv4", "IPv6"}, []any{"IPv6", "IPv4"}, []any{"IPv4", "IPv4"}, []any{"ipv4"}, []any{""}, []any{"IPv4", "IPv6", "IPv4"}, nil, "IPv4", absent{})

	trafficPolicies = values("Cluster", "Local", "local", "Node", "", nil, absent{})
)

func values(all ...any) []any { return all }

// enum are the values of a field that has some.
func enum(known ...any) []any {
	out := append(values("unknown", "", nil, absent{}, 5), known...)
	for _, k := range known {
		out = append(out, strings.ToLower(k.(string)), k.(string)+" ")
	}
	return out
}

// long is a name of so many characters, with dots.
func long(n int) string {
	return (strings.Repeat(strings.Repeat("a", 62)+".", 10))[:n-1] + "b"
}

// many is a list of n entries.
func many(n int, entry func(i int) any) []any {
	out := make([]any, n)
	for i := range out {
		out[i] = entry(i)
	}
	return out
}

func named(i int) any { return map[string]any{"name": fmt.Sprintf("z%d", i)} }

func field(name string, value any) any { return map[string]any{name: value} }
