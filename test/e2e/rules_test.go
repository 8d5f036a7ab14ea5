package e2e

import (
	"bytes"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
)

// contested are Services that do not get all that they ask for: young wants what old has,
// an address in the range of ClusterIPs and the broadcast address of the node's network.
// Their endpoints are here, elsewhere, or nowhere.
const contested = `apiVersion: v1
kind: Service
metadata: {name: old, namespace: testing, creationTimestamp: "2026-01-01T00:00:00Z"}
spec:
  type: LoadBalancer
  clusterIP: 10.43.0.8
  selector: {app: echo}
  externalIPs: [198.51.100.1]
  loadBalancerSourceRanges: [192.0.2.0/24]
  ports: [{port: 80, targetPort: 5678, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.7}]}}
---
apiVersion: v1
kind: Service
metadata: {name: young, namespace: testing, creationTimestamp: "2026-02-01T00:00:00Z"}
spec:
  type: NodePort
  clusterIP: 10.43.0.9
  selector: {app: echo}
  externalTrafficPolicy: Local
  externalIPs: [198.51.100.1, 198.51.100.2, 10.43.7.7, 192.0.2.255]
  ports: [{port: 80, targetPort: 5678, nodePort: 30080}]
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: testing}
spec:
  clusterIP: 10.43.0.10
  selector: {app: nothing}
  externalIPs: [198.51.100.3]
  sessionAffinity: ClientIP
  ports: [{port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: elsewhere, namespace: testing}
spec:
  clusterIP: 10.43.0.11
  internalTrafficPolicy: Local
  ports: [{port: 80, targetPort: 5678}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: elsewhere-1, namespace: testing, labels: {kubernetes.io/service-name: elsewhere}}
addressType: IPv4
ports: [{port: 5678}]
endpoints: [{addresses: [10.43.9.9], nodeName: node-2}]
`

// applyPrinted has the kernel take the rules of one family that `coredns rules` prints, and
// returns what it has told besides.
func (n *node) applyPrinted(family string) (told string) {
	n.t.Helper()
	var rules, stderr bytes.Buffer
	cmd := exec.Command(n.program, "rules", "-conf", n.conf, "-backend", n.backend, "-family", family)
	cmd.Stdout, cmd.Stderr = &rules, &stderr
	if err := n.Do(cmd.Run); err != nil {
		n.t.Fatalf("%v\n%s", err, stderr.String())
	}
	apply := map[string][]string{
		"iptables 4": {"iptables-restore", "--noflush"}, "iptables 6": {"ip6tables-restore", "--noflush"},
		"nftables 4": {"nft", "-f", "-"}, "nftables 6": {"nft", "-f", "-"},
	}[n.backend+" "+family]
	cmd = exec.Command(apply[0], apply[1:]...)
	cmd.Stdin = &rules
	var out []byte
	err := n.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if err != nil {
		n.t.Fatalf("%v\n%s", err, out)
	}
	return stderr.String()
}

// printedTexts are some of what the server writes for contested.
var printedTexts = map[string][]string{
	"iptables": {"198.51.100.2/32", "10.43.0.10/32", "-j KUBE-FW-", "10.43.9.9/32 -j RETURN"},
	"nftables": {"198.51.100.2 . tcp . 80", "10.43.0.10 . tcp . 80", "chain restricted-", "ip daddr 10.43.9.9 return"},
}

// What `coredns rules` prints is what the server writes on the same node into a kernel
// without rules: fed to iptables-restore, or to nft, it leads to the same tables.
func TestRulesAreWhatTheServerWrites(t *testing.T) { eachBackend(t, rulesAreWhatTheServerWrites) }

func rulesAreWhatTheServerWrites(t *testing.T, backend string) {
	for _, at := range []string{"all", "primary", "192.0.2.0/24 127.0.0.0/8 2001:db8::/64"} {
		t.Run(at, func(t *testing.T) {
			n, client := newEcho(t, backend)
			n.configure("sync_period 1s", "sync_period 1s\n\t\tnodeport_addresses "+at)
			n.write("contested.yaml", contested)
			n.write("node.yaml", "apiVersion: v1\nkind: Node\nmetadata: {name: node-1}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n")
			p := n.start()
			eventually(t, "an answer", reaches(client, "tcp", echoIPv4))
			for _, family := range []string{"IPv4", "IPv6"} {
				eventually(t, family, p.Says(family+": all rules are in place"))
			}
			written := n.kernelRules()
			for _, text := range printedTexts[backend] {
				if !strings.Contains(written, text) {
					t.Errorf("the server has written no %s", text)
				}
			}
			p.Stop(syscall.SIGTERM)
			kubetest.Output(t, n.Host, n.program, "cleanup")
			for _, family := range []string{"4", "6"} {
				told := n.applyPrinted(family)
				for _, text := range []string{
					"198.51.100.1:80/TCP belongs to Service testing/old", "NodePort 30080/TCP belongs to Service testing/old",
					"10.43.7.7:80/TCP is a ClusterIP, or in the range", "192.0.2.255:80/TCP is the broadcast address",
				} {
					if family == "4" && !strings.Contains(told, "Service testing/young: "+text) {
						t.Errorf("it is not told that %s:\n%s", text, told)
					}
				}
			}
			if printed := n.kernelRules(); printed != written {
				t.Errorf("written by the server:\n%s\nprinted:\n%s", written, printed)
			}
		})
	}
}
