package kernelnat

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
	"github.com/clusterip/clusterip/kernelnat/iptables"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/coredns/caddy"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseOptions(t *testing.T) {
	t.Setenv("NODE_NAME", "node-1")
	tests := []struct {
		name, stanza string
		want         Options
	}{
		{"defaults", `kernelnat`, Options{
			Options: kernelnat.Options{NodeName: "node-1", SyncPeriod: 30 * time.Second, Plan: plan.Options{Healthz: 10256, Lacks: iptables.Lacks, Bounds: plan.DefaultBounds}}, Backend: "iptables", Exported: kernelnat.Exported{Top: 20}, Settings: netfilter.Settings{MasqueradeBit: 14}, Healthz: ":10256", Sysctls: conntrack.DefaultSysctls,
		}},
		{"pods by interface, NodePorts everywhere", `kernelnat {
			detect_local interface_prefix abcdefghijklmn
			nodeport_addresses 192.0.2.0/24 0.0.0.0/0
		}`, Options{
			Options: kernelnat.Options{NodeName: "node-1", SyncPeriod: 30 * time.Second, Plan: plan.Options{PodInterface: "abcdefghijklmn+", Healthz: 10256, Lacks: iptables.Lacks, Bounds: plan.DefaultBounds}},
			Backend: "iptables", Exported: kernelnat.Exported{Top: 20}, Settings: netfilter.Settings{MasqueradeBit: 14}, Healthz: ":10256", Sysctls: conntrack.DefaultSysctls,
		}},
		{"everything", `kernelnat {
			backend iptables
			node_name worker
			cluster_cidr 10.42.7.9/16 fd42::/48
			masquerade_all
			masquerade_bit 15
			min_sync_period 100ms
			sync_period 1m
			service_proxy_name ours
			nodeport_addresses 192.0.2.9/24 2001:db8::/64
			no_external_ips
			no_such_service off
			healthz off
			load_balancing round_robin
			conntrack_max_per_core 0
			conntrack_min 1000
			conntrack_tcp_timeout_established 2h
			conntrack_tcp_timeout_close_wait 0
			conntrack_udp_timeout 60s
			conntrack_udp_timeout_stream 3m
			conntrack_tcp_be_liberal
			dry_run
		}`, Options{
			Options: kernelnat.Options{
				Plan: plan.Options{
					ClusterCIDRs:  []netip.Prefix{netip.MustParsePrefix("10.42.0.0/16"), netip.MustParsePrefix("fd42::/48")},
					MasqueradeAll: true, Proxy: cluster.NamedProxy("ours"), NoExternalIPs: true,
					Policy: cluster.RoundRobin, Lacks: iptables.Lacks, Bounds: plan.DefaultBounds,
				},
				KeepUnknown: true,
				NodeName:    "worker", MinSyncPeriod: 100 * time.Millisecond, SyncPeriod: time.Minute, DryRun: true,
			},
			Backend: "iptables", Exported: kernelnat.Exported{Top: 20},
			Settings: netfilter.Settings{MasqueradeBit: 15, NodePorts: netfilter.NodePorts{
				Ranges: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/64")},
			}},
			Sysctls: conntrack.Sysctls{Min: 1000, TCPEstablished: 2 * time.Hour, UDP: time.Minute, UDPStream: 3 * time.Minute, TCPLiberal: true},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseOptions(caddy.NewTestController("dns", tt.stanza))
			if err != nil {
				t.Fatal(err)
			}
			got.Stanza = nil
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A kubelet registers its node in lower case, however the host's name is written.
func TestNodeName(t *testing.T) {
	for _, c := range []struct{ variable, stanza, want string }{
		{" Node-1 ", "kernelnat", "node-1"},
		{"node-1", "kernelnat {\n node_name \" Worker.Example \"\n}", "worker.example"},
	} {
		t.Setenv("NODE_NAME", c.variable)
		if got, err := ParseOptions(caddy.NewTestController("dns", c.stanza)); err != nil || got.NodeName != c.want {
			t.Errorf("$NODE_NAME %q, %s: %q, %v; want %q", c.variable, c.stanza, got.NodeName, err, c.want)
		}
	}
}

func TestParseOptionsErrors(t *testing.T) {
	tests := []struct{ stanza, want string }{
		{"kernelnat yes", "takes no arguments"},
		{"kernelnat {\n backed iptables\n}", `Testfile:2 - Error during parsing: unknown kernelnat option "backed": the options are backend, `},
		{"kernelnat {\n dry_run\n dry_run\n}", `Testfile:3 - Error during parsing: kernelnat option dry_run is given twice`},
		{"kernelnat {\n dry_run on\n}", "takes no argument"},
		{"kernelnat {\n dry_run {\n }\n}", "takes no block"},
		{"kernelnat {\n backend\n}", "needs one argument"},
		{"kernelnat {\n backend ebpf\n}", "use auto, iptables, nftables or ipvs"},
		{"kernelnat {\n backend auto\n connection_metrics\n}", "needs off, top N, or the names"},
		{"kernelnat {\n backend auto\n connection_metrics top 1001\n}", `top "1001": how many is a number from 1 to 1000`},
		{"kernelnat {\n backend auto\n connection_metrics kube-dns\n}", `"kube-dns" is none of off, top N, and NAMESPACE/NAME`},
		{"kernelnat {\n connection_metrics top 5\n}", "backend iptables counts no connections"},
		{"kernelnat {\n endpoint_metrics\n}", "backend iptables counts no connections"},
		{"kernelnat {\n load_balancing\n}", "needs one argument, random, round_robin or source_hash"},
		{"kernelnat {\n load_balancing fastest\n}", `"fastest" is none of random, round_robin, source_hash, nor a scheduler of IPVS: rr, wrr, lc, wlc, sh, mh, dh, sed, nq, fo, ovf, lblc, lblcr, twos`},
		{"kernelnat {\n load_balancing lc\n}", "load_balancing is lc, which backend iptables does not have"},
		{"kernelnat {\n backend ipvs\n ipvs_scheduler fastest\n}", `"fastest" is no scheduler of IPVS: use one of rr, wrr, lc, wlc, sh, mh, dh, sed, nq, fo, ovf, lblc, lblcr, twos`},
		{"kernelnat {\n backend ipvs\n ipvs_scheduler random\n}", `"random" is no scheduler of IPVS`},
		{"kernelnat {\n ipvs_scheduler lc\n backend nftables\n}", "ipvs_scheduler is for backend ipvs, and the backend is nftables"},
		{"kernelnat {\n ipvs_udp_timeout 30s\n backend nftables\n}", "ipvs_udp_timeout is for backend ipvs, and the backend is nftables"},
		{"kernelnat {\n backend ipvs\n ipvs_tcp_timeout 1500ms\n}", "1.5s: IPVS counts whole seconds, up to 336h0m0s"},
		{"kernelnat {\n backend ipvs\n ipvs_tcpfin_timeout 400h\n}", "400h0m0s: IPVS counts whole seconds, up to 336h0m0s"},
		{"kernelnat {\n backend ipvs\n ipvs_tcp_timeout -1s\n}", "give one duration such as 30s"},
		{"kernelnat {\n backend ipvs\n ipvs_scheduler lc\n load_balancing random\n}", "ipvs_scheduler and load_balancing, which both say how endpoints take turns: keep one"},
		{"kernelnat {\n load_balancing source_hash\n}", "load_balancing is source_hash, which backend iptables does not have: choose another policy, or another backend"},
		{"kernelnat {\n no_such_service drop\n}", "neither reject nor off"},
		{"kernelnat {\n no_such_service\n}", "needs one argument"},
		{"kernelnat {\n node_name\n}", "needs one argument"},
		{"kernelnat {\n cluster_cidr\n}", "got 0"},
		{"kernelnat {\n cluster_cidr 10.42.0.0\n}", "not a CIDR"},
		{"kernelnat {\n cluster_cidr 10.42.0.0/16 10.44.0.0/16\n}", "two IPv4 ranges"},
		{"kernelnat {\n cluster_cidr ::/0\n}", "leave the option out"},
		{"kernelnat {\n cluster_cidr ::ffff:10.42.0.0/112\n}", "not a CIDR"},
		{"kernelnat {\n masquerade_bit 32\n}", "number from 0 to 31"},
		{"kernelnat {\n detect_local cluster\n}", "needs one of node_cidr, bridge NAME"},
		{"kernelnat {\n detect_local bridge \"a b\"\n}", "no name of a network interface"},
		{"kernelnat {\n conntrack_min many\n}", `"many": give one number of connections`},
		{"kernelnat {\n detect_local interface_prefix abcdefghijklmno\n}", "no name of a network interface"},
		{"kernelnat {\n detect_local bridge \"\"\n}", "no name of a network interface"},
		{"kernelnat {\n detect_local node_cidr\n cluster_cidr 10.42.0.0/16\n}", "keep one"},
		{"kernelnat {\n node_name \"\"\n}", "is empty"},
		{"kernelnat {\n node_name \" \"\n}", "is empty"},
		{"kernelnat {\n sync_period 1ms\n}", "too short"},
		{"kernelnat {\n nodeport_addresses\n}", "needs all, primary, or the CIDRs"},
		{"kernelnat {\n nodeport_addresses all 192.0.2.0/24\n}", `"all" is neither a CIDR`},
		{"kernelnat {\n no_external_ips yes\n}", "takes no argument"},
		{"kernelnat {\n healthz 10256\n}", `"10256" is not an address such as :10256`},
		{"kernelnat {\n healthz :x\n}", "is not an address"},
		{"kernelnat {\n min_sync_period -1s\n}", "give one duration"},
		{"kernelnat {\n min_sync_period 5\n}", "give one duration"},
		{"kernelnat\nkernelnat", "Testfile:2 - Error during parsing: kernelnat is there twice"},
	}
	for _, tt := range tests {
		t.Run(tt.stanza, func(t *testing.T) {
			_, err := ParseOptions(caddy.NewTestController("dns", tt.stanza))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// All faults are told, each on the line of its option.
func TestFaultsOnTheirLine(t *testing.T) {
	for name := range options.Parsers {
		_, err := ParseOptions(caddy.NewTestController("dns", "kernelnat {\n \n "+name+" \"a b\" c d\n nonsense\n}"))
		for _, want := range []string{"Testfile:3 - Error during parsing: " + name, `Testfile:4 - Error during parsing: unknown kernelnat option "nonsense"`} {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
		}
	}
	_, err := ParseOptions(caddy.NewTestController("dns", "kernelnat {\n detect_local node_cidr\n endpoint_metrics\n load_balancing source_hash\n cluster_cidr 10.42.0.0/16\n connection_metrics top 3\n}"))
	want := strings.Join([]string{
		"plugin/kernelnat: Testfile:2 - Error during parsing: kernelnat has detect_local and cluster_cidr, which both say who is a pod: keep one",
		"plugin/kernelnat: Testfile:3 - Error during parsing: backend iptables counts no connections: take endpoint_metrics out, or choose backend nftables or auto",
		"plugin/kernelnat: Testfile:4 - Error during parsing: load_balancing is source_hash, which backend iptables does not have: choose another policy, or another backend",
		"plugin/kernelnat: Testfile:6 - Error during parsing: backend iptables counts no connections: take connection_metrics out, or choose backend nftables or auto",
	}, "\n")
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
