package main

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// node is one in network namespaces, with a Corefile for it.
type node struct {
	*testing.T
	*netlab.Node
	dir string
}

const nodeCorefile = `.:53 {
    ready
    clusterip cluster.local {
        manifests m
        service_cidr 10.43.0.0/16
    }
    kernelnat {
        node_name node-1
        conntrack_max_per_core 0
    }
}
`

const nodeManifests = `
apiVersion: v1
kind: Node
metadata: {name: node-1}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: testing}
spec: {type: NodePort, clusterIP: 10.43.0.7, ports: [{port: 80, nodePort: 30080}]}
`

func newCheckedNode(t *testing.T) *node {
	netlab.Require(t, "iptables", "ip")
	n, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	own := &node{t, n, t.TempDir()}
	if err := errors.Join(os.Chmod(filepath.Dir(own.dir), 0o755), os.Chmod(own.dir, 0o755), os.Mkdir(filepath.Join(own.dir, "m"), 0o755)); err != nil {
		t.Fatal(err)
	}
	own.write("m/all.yaml", nodeManifests)
	own.write("Corefile", nodeCorefile)
	return own
}

func (n *node) write(file, content string) {
	n.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, file), []byte(content), 0o644); err != nil {
		n.Fatal(err)
	}
}

// checks runs the subcommand on the node, and returns what it prints and its exit code. The
// bridge of the pods is no matter here.
func (n *node) checks(as *syscall.Credential, args ...string) (stdout, stderr string, code int) {
	n.Helper()
	program, err := exec.LookPath("coredns") // put there by testscript.Main
	if err != nil {
		n.Fatal(err)
	}
	if as != nil { // who may not look where it is
		own := filepath.Join(n.dir, "bin", "coredns")
		content, err := os.ReadFile(program)
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(own), 0o755), os.WriteFile(own, content, 0o755))
		}
		if err != nil {
			n.Fatal(err)
		}
		program = own
	}
	cmd := exec.Command(program, append([]string{"check"}, args...)...)
	cmd.Dir = n.dir
	if as != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as}
	}
	var out, talk strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &talk
	if err := n.Do(cmd.Run); err != nil && cmd.ProcessState == nil {
		n.Fatal(err)
	}
	return out.String(), talk.String(), cmd.ProcessState.ExitCode()
}

func TestCheckNode(t *testing.T) {
	n := newCheckedNode(t)
	stdout, stderr, code := n.checks(nil, "-node")
	if code != 0 || stdout != "" || !strings.Contains(stderr, "is sound, and so are the manifests that it names. No fault was found on this machine.") {
		t.Fatalf("a node with nothing in the way: exit code %d\n%s\n%s", code, stdout, stderr)
	}

	conn, err := n.ListenPacket("udp", netip.MustParseAddrPort("127.0.0.53:53"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ready, err := n.Listen("tcp", netip.MustParseAddrPort("[::]:8181"))
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	page, err := n.Listen("tcp", netip.MustParseAddrPort("127.0.0.1:8053"))
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	if err := n.Do(func() error {
		return errors.Join(exec.Command("ip", "-4", "route", "del", "default").Run(), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("0"), 0),
			os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("20000 60999"), 0))
	}); err != nil {
		t.Fatal(err)
	}
	n.write("Corefile", strings.NewReplacer("node-1", "node-2", "    ready\n", "    ready\n    admin :8053\n").Replace(nodeCorefile))
	stdout, stderr, code = n.checks(nil, "-node")
	want := []string{
		`Corefile:9: kernelnat: no Node is called "node-2", only node-1: `,
		"Corefile: UDP port [::]:53, for queries, is taken by coredns.test (process ",
		"Corefile:2: TCP port [::]:8181, for the plugin ready, is taken by coredns.test (process ",
		"Corefile:3: TCP port 127.0.0.1:8053, for the page of admin, is taken by coredns.test (process ",
		"Corefile:6: this machine has no route to the range of ClusterIPs 10.43.0.0/16 (network is unreachable)",
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 1 || len(lines) != len(want) {
		t.Errorf("exit code %d, %d lines, want %d:\n%s", code, len(lines), len(want), stdout)
	}
	for i := range min(len(lines), len(want)) {
		if !strings.HasPrefix(lines[i], want[i]) {
			t.Errorf("line %d is\n%s\nwant\n%s", i+1, lines[i], want[i])
		}
	}
	for _, notice := range []string{"this machine: net.ipv4.ip_forward is 0: ", "this machine: the NodePorts 30080-30080 are in net.ipv4.ip_local_port_range (20000-60999)"} {
		if strings.Count(stderr, notice) != 1 {
			t.Errorf("no %q, or twice, in\n%s", notice, stderr)
		}
	}
	n.write("Corefile", nodeCorefile)
	if stdout, stderr, code := n.checks(nil); code != 0 || strings.Contains(stderr, "this machine") {
		t.Errorf("without -node the machine is looked at: exit code %d\n%s\n%s", code, stdout, stderr)
	}
}

// Without root it is said plainly what could not be looked at.
func TestCheckNodeUnprivileged(t *testing.T) {
	n := newCheckedNode(t)
	n.write("m/.clusterip-state.json", "{\"version\":1}")
	stdout, stderr, code := n.checks(&syscall.Credential{Uid: 65534, Gid: 65534}, "-node")
	want := "Corefile:7: this process lacks CAP_NET_ADMIN and CAP_NET_RAW: kernelnat would write no rules, and what others have written could not be looked at: run this, and the server, as root or with these capabilities, or set dry_run\n"
	if code != 1 || stdout != want {
		t.Errorf("exit code %d\n%s\n%s\nwant\n%s", code, stdout, stderr, want)
	}
	n.write("Corefile", strings.Replace(nodeCorefile, "conntrack_max_per_core 0", "dry_run", 1))
	if stdout, stderr, code := n.checks(&syscall.Credential{Uid: 65534, Gid: 65534}, "-node"); code != 0 || stdout != "" {
		t.Errorf("a dry run: exit code %d\n%s\n%s", code, stdout, stderr)
	}
}

// An API server that does not answer is no fault of the machine.
func TestCheckNodeWithoutAPIServer(t *testing.T) {
	n := newCheckedNode(t)
	n.write("Corefile", `.:53 {
    clusterip cluster.local {
        endpoint http://127.0.0.1:1
        startup_timeout 1s
    }
    kernelnat {
        conntrack_max_per_core 0
    }
}
`)
	stdout, stderr, code := n.checks(nil, "-node")
	if want := "Corefile:3: clusterip: the API server could not be asked, so its Node and ServiceCIDRs were not looked at: "; code != 0 || stdout != "" || strings.Count(stderr, want) != 1 {
		t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
	}
}

func TestNodePorts(t *testing.T) {
	with := func(ports ...uint16) (u cluster.Update) {
		for _, p := range ports {
			u.Services = append(u.Services, cluster.ServiceUpdate{Service: &cluster.Service{Ports: []cluster.Port{{NodePort: p}}}})
		}
		return u
	}
	for _, c := range []struct {
		u         cluster.Update
		allocated bool
		want      [2]uint16
	}{
		{with(), false, [2]uint16{}},
		{with(0), false, [2]uint16{}},
		{with(30080, 0, 80, 31000), false, [2]uint16{80, 31000}},
		{with(0), true, [2]uint16{30000, 32767}},
		{with(80), true, [2]uint16{80, 32767}},
	} {
		if got := nodePorts(c.u, c.allocated); got != c.want {
			t.Errorf("%v, want %v", got, c.want)
		}
	}
}

func TestListenAt(t *testing.T) {
	for address, want := range map[string]string{
		":53": "[::]:53", "localhost:9153": "127.0.0.1:9153", "192.0.2.1:8080": "192.0.2.1:8080", "[2001:db8::1]:53": "[2001:db8::1]:53",
		"0.0.0.0:53": "0.0.0.0:53", "[fe80::1%eth0]:53": "[fe80::1]:53", "name.example:53": "invalid AddrPort", "53": "invalid AddrPort", ":x": "invalid AddrPort",
	} {
		if got := listenAt(address).String(); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}

// What a folder's Services and the directive bind ask of the machine is told at their places.
func TestCheckNodePlaces(t *testing.T) {
	n := newCheckedNode(t)
	n.write("Corefile", strings.Replace(nodeCorefile, "    ready\n", "    bind 127.0.0.1 203.0.113.77\n", 1))
	n.write("m/balanced.yaml", `
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: testing}
spec: {type: LoadBalancer, clusterIP: 10.43.0.8, externalTrafficPolicy: Local, healthCheckNodePort: 30999, ports: [{port: 80, nodePort: 30081}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: balanced, namespace: testing}
subsets: [{addresses: [{ip: 10.42.0.1, nodeName: node-1}], ports: [{port: 8080}]}]
`)
	taken, err := n.Listen("tcp", netip.MustParseAddrPort("[::]:30999"))
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	stdout, stderr, code := n.checks(nil, "-node")
	for text, where := range map[string]string{
		"Corefile:2: this machine does not have the address 203.0.113.77, for queries, so the server does not start: ":                             stdout,
		"m/balanced.yaml:2: Service testing/balanced: TCP port [::]:30999, for its healthCheckNodePort 30999, is taken by ":                        stdout,
		"m/balanced.yaml:2: Service testing/balanced: its endpoint 10.42.0.1:8080/TCP is at this machine's own address (cni0), and nobody listens": stderr,
	} {
		if strings.Count(where, text) != 1 {
			t.Errorf("%q is not told once", text)
		}
	}
	if code != 1 || t.Failed() {
		t.Errorf("exit code %d\n%s\n%s", code, stdout, stderr)
	}
}
