package preflight

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func prefixes(texts ...string) (all []netip.Prefix) {
	for _, t := range texts {
		all = append(all, netip.MustParsePrefix(t))
	}
	return all
}

// asked is a Corefile that asks for everything.
func asked() Config {
	at := netip.MustParseAddrPort
	return Config{
		Ports: []Port{
			{Place: "Corefile", What: "queries", UDP: true, At: at("[::]:53"), Mend: "serve elsewhere"},
			{Place: "Corefile:3", What: "the plugin ready", At: at("127.0.0.1:8181"), Mend: "give the plugin another address"},
			{Place: "Corefile:9", What: "health checks of kernelnat", At: at("[::]:10256"), Later: true, Mend: "give healthz another address"},
		},
		NAT: &NAT{
			Place: func(options ...string) string { return "Corefile:" + strings.Join(append(options, ""), ":") }, Backend: "iptables",
			ServiceCIDRs: prefixes("10.43.0.0/16", "fd43::/112"), CIDRPlace: "Corefile:5", ClusterCIDRs: prefixes("10.42.0.0/16"),
			NodePorts: [2]uint16{30000, 32767}, AtLoopback: true, Tracked: 131072,
		},
	}
}

// sound is a machine that has nothing in the way.
func sound() Machine {
	return Machine{
		Self:      "/usr/local/bin/coredns",
		Addresses: []Address{{netip.MustParsePrefix("127.0.0.1/8"), "lo", false}, {netip.MustParsePrefix("192.0.2.1/24"), "eth0", true}, {netip.MustParsePrefix("10.42.0.1/24"), "cni0", false}},
		Bridges:   []string{"cni0"},
		IPTables:  IPTables{Uses: "nft", Foreign: map[string]int{"nft": 7, "legacy": 0}},
		Sysctls: map[string]string{
			ipForward: "1", ipv6Forwarding: "1", routeLocalnet: "0", filterAll: "0", FilterOf("eth0"): "2", FilterOf("cni0"): "0",
			localRange: "32768\t60999", localReserved: "", bridgeIPv4: "1", bridgeIPv6: "1", trackedMax: "262144", trackedNow: "1000",
		},
	}
}

// Each finding has a place, what is wrong, and the mend, and whether the server can work.
func TestJudge(t *testing.T) {
	socket := func(udp bool, at string, by *Process) func(*Config, *Machine) {
		return func(_ *Config, m *Machine) { m.Sockets = []Socket{{udp, netip.MustParseAddrPort(at), by}} }
	}
	sysctl := func(name, value string) func(*Config, *Machine) {
		return func(_ *Config, m *Machine) { m.Sysctls[name] = value }
	}
	resolved := &Process{812, "systemd-resolve", "/usr/lib/systemd/systemd-resolved"}
	for name, c := range map[string]struct {
		change func(*Config, *Machine)
		want   string // "" for no finding; F before a fault
	}{
		"nothing":                         {func(*Config, *Machine) {}, ""},
		"port 53 by another":              {socket(true, "127.0.0.53:53", resolved), "F Corefile: UDP port [::]:53, for queries, is taken by systemd-resolve (process 812) at 127.0.0.53:53, so the server does not start: stop that, or serve elsewhere"},
		"port 53 by an unknown one":       {socket(true, "[::]:53", nil), "F Corefile: UDP port [::]:53, for queries, is taken by a process that cannot be seen from here at"},
		"port 53 of the other protocol":   {socket(false, "127.0.0.53:53", resolved), ""},
		"port 53 by this program":         {socket(true, "[::]:53", &Process{7, "coredns", "/usr/local/bin/coredns"}), " this machine: this program runs already, as process 7"},
		"a port at another address":       {socket(false, "127.0.0.2:8181", resolved), ""},
		"a port at all IPv4 addresses":    {socket(false, "0.0.0.0:8181", resolved), "F Corefile:3: TCP port 127.0.0.1:8181, for the plugin ready, is taken by"},
		"an address that it lacks":        {func(c *Config, _ *Machine) { c.Ports[1].At = netip.MustParseAddrPort("192.0.2.77:8181") }, "F Corefile:3: this machine does not have the address 192.0.2.77, for the plugin ready, so the server does not start: add the address"},
		"healthz":                         {socket(false, "[::]:10256", &Process{9, "k3s-agent", ""}), "F Corefile:9: TCP port [::]:10256, for health checks of kernelnat, is taken by k3s-agent (process 9) at [::]:10256, so the server starts without, and tries again: stop that"},
		"unseen":                          {func(_ *Config, m *Machine) { m.Unseen = []error{errors.New("list links: no")} }, "F this machine: it could not be seen whether all is well: list links: no: mend that"},
		"no capabilities":                 {func(_ *Config, m *Machine) { m.Lacks = []string{"CAP_NET_ADMIN", "CAP_NET_RAW"} }, "F Corefile:: this process lacks CAP_NET_ADMIN and CAP_NET_RAW: kernelnat would write no rules, "},
		"a capability that is not needed": {func(c *Config, m *Machine) { c.NAT.Backend, m.Lacks = "nftables", []string{"CAP_NET_RAW"} }, ""},
		"kube-proxy": {func(_ *Config, m *Machine) {
			m.Proxies = []Process{{5, "kube-proxy", ""}}
			m.ProxyTables = []string{"ip kube-proxy"}
		}, "F this machine: kube-proxy (process 5) runs here, and each undoes what the other writes: stop it before"},
		"what kube-proxy left": {func(_ *Config, m *Machine) {
			m.ProxyTables, m.IPTables.Own = []string{"ip kube-proxy"}, []string{"legacy"}
		}, " this machine: there are rules of kube-proxy, or of an earlier run: the table ip kube-proxy of nf_tables, chains KUBE-SERVICES of iptables-legacy: kernelnat takes them over"},
		"kernelnat":     {func(_ *Config, m *Machine) { m.Running, m.IPTables.Own = &Process{3, "coredns", ""}, []string{"nft"} }, " Corefile:: kernelnat runs here already, in coredns (process 3), "},
		"no backend":    {func(_ *Config, m *Machine) { m.Backend = errors.New("install the package iptables") }, "F Corefile:backend:: backend iptables cannot be used here: install the package iptables: mend that, or choose backend nftables"},
		"no scheduler":  {func(c *Config, m *Machine) { c.NAT.Backend, m.Missing = "ipvs", []error{errors.New("no twos")} }, " Corefile:ipvs_scheduler:backend:: no twos, so connections of who asks for it go to random endpoints: load the module, or choose another policy"},
		"no nf_tables":  {func(c *Config, m *Machine) { c.NAT.Backend, m.Backend = "nftables", errors.New("IPv4: no") }, "F Corefile:backend:: backend nftables cannot be used here: IPv4: no: load the modules of nf_tables, or choose backend iptables"},
		"both variants": {func(_ *Config, m *Machine) { m.IPTables.Foreign["legacy"] = 3 }, " this machine: iptables-legacy has 3 rules, while iptables-nft is in use here: packets pass both, and what one accepts the other may drop; kernelnat writes to iptables-nft: have all programs use one variant"},
		"no route": {func(_ *Config, m *Machine) {
			m.Unrouted = map[netip.Prefix]string{prefixes("10.43.0.0/16")[0]: "network is unreachable"}
		}, "F Corefile:5: this machine has no route to the range of ClusterIPs 10.43.0.0/16 (network is unreachable), so connections from here fail before they are translated: add a default route, or one to that range by any interface: ip route add 10.43.0.0/16 dev INTERFACE"},
		"an address in the range": {func(_ *Config, m *Machine) { m.Addresses[1].Prefix = netip.MustParsePrefix("10.43.7.1/24") }, "F Corefile:5: the range of ClusterIPs 10.43.0.0/16 holds this machine's address 10.43.7.1 (eth0), which a Service could get: choose a range"},
		"the uplink among pods":   {func(_ *Config, m *Machine) { m.Addresses[1].Prefix = netip.MustParsePrefix("10.42.7.1/24") }, " Corefile:cluster_cidr:: cluster_cidr 10.42.0.0/16 holds this machine's address 10.42.7.1/24 (eth0), so clients in that network count as pods: "},
		"local ports":             {sysctl(localRange, "1024\t65535"), " this machine: the NodePorts 30000-32767 are in net.ipv4.ip_local_port_range (1024-65535): a connection from this machine may get one as its own port, and its replies go to a Service: set net.ipv4.ip_local_reserved_ports=30000-32767"},
		"local ports in part": {func(_ *Config, m *Machine) {
			m.Sysctls[localRange], m.Sysctls[localReserved] = "32000\t60999", "8080,32000-32100"
		}, "set net.ipv4.ip_local_reserved_ports=8080,32000-32100,32000-32767"},
		"local ports that are reserved": {func(_ *Config, m *Machine) {
			m.Sysctls[localRange], m.Sysctls[localReserved] = "1024\t65535", "31000-40000,8080,29999-30999"
		}, ""},
		"no NodePorts":          {func(c *Config, m *Machine) { m.Sysctls[localRange], c.NAT.NodePorts = "1024\t65535", [2]uint16{} }, ""},
		"no forwarding":         {sysctl(ipForward, "0"), " this machine: net.ipv4.ip_forward is 0: connections of this machine reach Services, but those of pods and of other machines are not passed on to endpoints elsewhere: set net.ipv4.ip_forward=1"},
		"forwarding is dropped": {func(_ *Config, m *Machine) { m.ForwardDrops = []string{"chain FORWARD of table ip filter"} }, " this machine: chain FORWARD of table ip filter drops what is forwarded, unless a rule there accepts it, whatever other tables say: "},
		"the first packets are dropped": {func(_ *Config, m *Machine) {
			m.InputDrops, m.Entries = []string{"chain INPUT of table ip filter"}, prefixes("192.88.99.0/24", "100:0:0:1::/64")
		}, " this machine: chain INPUT of table ip filter drops what comes to this machine, unless a rule there accepts it, and the first packets of connections to Services pass it: have it accept packets to 192.88.99.0/24 100:0:0:1::/64"},
		"a range of ours":       {func(c *Config, m *Machine) { c.NAT.Backend, m.Entries = "ipvs", prefixes("10.43.9.0/24") }, " Corefile:backend:: the range 10.43.0.0/16 overlaps 10.43.9.0/24, where backend ipvs has virtual servers, so nobody else is reached there: choose another range, or another backend"},
		"no forwarding of IPv6": {sysctl(ipv6Forwarding, "0"), " this machine: net.ipv6.conf.all.forwarding is 0: "},
		"no forwarding of what is not served": {func(c *Config, m *Machine) {
			c.NAT.ServiceCIDRs, m.Sysctls[ipv6Forwarding] = c.NAT.ServiceCIDRs[:1], "0"
		}, ""},
		"no loopback":             {func(_ *Config, m *Machine) { m.ReadOnly = true }, " Corefile:nodeport_addresses:: net.ipv4.conf.all.route_localnet is 0 and cannot be set by this process, so NodePorts are not at 127.0.0.1: "},
		"strict paths":            {sysctl(FilterOf("cni0"), "1"), " this machine: rp_filter is 1 (strict) for cni0: "},
		"strict paths everywhere": {func(_ *Config, m *Machine) { m.Sysctls[filterAll], m.Sysctls[FilterOf("eth0")] = "1", "0" }, "rp_filter is 1 (strict) for cni0, eth0: "},
		"strict paths, one way": {func(_ *Config, m *Machine) {
			m.Sysctls[filterAll], m.Addresses = "1", m.Addresses[:2]
			m.Sysctls[FilterOf("eth0")] = "0"
		}, ""},
		"bridged frames":           {sysctl(bridgeIPv4, "0"), " this machine: net.bridge.bridge-nf-call-iptables is 0, and there is the bridge cni0: a pod there that connects to a Service gets no replies from an endpoint on the same bridge: set net.bridge.bridge-nf-call-iptables=1"},
		"no br_netfilter":          {func(_ *Config, m *Machine) { delete(m.Sysctls, bridgeIPv4); delete(m.Sysctls, bridgeIPv6) }, " this machine: the module br_netfilter is not loaded, and there is the bridge cni0: "},
		"another bridge":           {func(c *Config, m *Machine) { c.NAT.Bridge, m.Sysctls[bridgeIPv4] = "br0", "0" }, ""},
		"no bridge":                {func(_ *Config, m *Machine) { m.Bridges, m.Sysctls[bridgeIPv4] = nil, "0" }, ""},
		"a full table":             {sysctl(trackedNow, "240000"), "F Corefile:conntrack_min:conntrack_max_per_core:: 240000 of 262144 connections are tracked that may be (net.netfilter.nf_conntrack_max): "},
		"a table that grows":       {func(c *Config, m *Machine) { c.NAT.Tracked, m.Sysctls[trackedNow] = 524288, "240000" }, ""},
		"a table that cannot grow": {func(c *Config, m *Machine) { c.NAT.AtLoopback, m.ReadOnly, c.NAT.Tracked = false, true, 524288 }, " Corefile:conntrack_min:conntrack_max_per_core:: net.netfilter.nf_conntrack_max is 262144 and cannot be set by this process, and 524288 are asked for: "},
		"no table yet":             {func(_ *Config, m *Machine) { delete(m.Sysctls, trackedMax); delete(m.Sysctls, trackedNow) }, ""},
		"without NAT":              {func(c *Config, m *Machine) { c.NAT, m.Proxies = nil, []Process{{5, "kube-proxy", ""}} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			config, machine := asked(), sound()
			c.change(&config, &machine)
			found := Judge(config, machine)
			if c.want == "" && len(found) == 0 {
				return
			}
			if len(found) != 1 || c.want == "" {
				t.Fatalf("found %q, want %q", found, c.want)
			}
			got := " " + found[0].String()
			if found[0].Fault {
				got = "F" + got
			}
			if !strings.Contains(got, c.want) || found[0].Place == "" || found[0].Mend == "" {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// Faults come first.
func TestOrder(t *testing.T) {
	config, machine := asked(), sound()
	machine.Sysctls[ipForward], machine.Sysctls[trackedNow] = "0", "262144"
	if found := Judge(config, machine); len(found) != 2 || !found[0].Fault || found[1].Fault {
		t.Errorf("found %q", found)
	}
}

// Whatever the kernel has in a list of ports, the range that is asked for is either in it or
// told.
func FuzzReserved(f *testing.F) {
	for _, list := range []string{"", "8080", "30000-32767", "1-65535", "30000-30001,30002-32767", "x,-,1-", "65535", "99999-1"} {
		f.Add(list)
	}
	f.Fuzz(func(t *testing.T, list string) {
		reserved := isReserved(30000, 30010, list)
		for port := uint16(30000); port <= 30010; port++ {
			if reserved && !isReserved(port, port, list) {
				t.Errorf("%q has all, and not %d", list, port)
			}
		}
	})
}
