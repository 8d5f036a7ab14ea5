package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/status"
	"github.com/clusterip/clusterip/test/kubetest"
)

// withAdmin has the program answer at a socket in a folder of the test.
func (n *node) withAdmin() {
	n.t.Helper()
	n.configure("errors\n", "errors\n\tadmin "+filepath.Join(n.t.TempDir(), "admin.sock")+"\n")
}

// explain runs the subcommand on the node. It returns what it has printed, and whether its exit
// code says that all is well.
func (n *node) explain(args ...string) (text string, works bool) {
	n.t.Helper()
	cmd := exec.Command(n.program, append([]string{"explain", "-conf", n.conf}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := n.Do(cmd.Run)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		n.t.Fatalf("explain %q: %v\n%s%s", args, err, stdout.String(), stderr.String())
	}
	return stdout.String() + stderr.String(), err == nil
}

// explained waits until the subcommand prints what is wanted.
func (n *node) explained(works bool, target string, want ...string) (text string) {
	n.t.Helper()
	eventually(n.t, fmt.Sprintf("explain %s: works: %t", target, works), func() error {
		var does bool
		text, does = n.explain(target)
		for _, w := range want {
			if !strings.Contains(text, w) {
				return fmt.Errorf("it lacks %q:\n%s", w, text)
			}
		}
		if does != works {
			return fmt.Errorf("works: %t\n%s", does, text)
		}
		return nil
	})
	return text
}

// What a running process says, and what is said of its rules when it is gone: that they are all
// there, that one is not, and that kube-proxy's are there too.
func TestExplain(t *testing.T) { kubetest.EachBackend(t, explainOnNode) }

func explainOnNode(t *testing.T, backend string) {
	n, client := newEcho(t, backend)
	n.withAdmin()
	p := n.start()
	n.explained(true, "testing/echo", "Process ", "IPv4: the kernel holds what is planned ("+backend+")", "IPv6: the kernel holds what is planned ("+backend+")",
		"10.42.0.10:5678", "100.0 %")
	meets := map[string]string{"iptables": "nat KUBE-SERVICES: -d 10.43.0.7/32 -p tcp", "nftables": "map frontends { 10.43.0.7 . tcp . 8080 : "}[backend]
	n.explained(true, "10.43.0.7:8080/TCP", "10.43.0.7:8080/TCP works: 10.43.0.7:8080/TCP leads to 1 endpoint", meets)
	n.explained(true, "echo.testing", "A     10.43.0.7 ", "ClusterIP of testing/echo")

	conn, err := client.Dial(t.Context(), "tcp", echoIPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	text := n.explained(true, "testing/echo", "to 10.43.0.7:8080", "at 10.42.0.10:5678")
	if counts := strings.Contains(text, "CONNECTIONS"); counts != (backend == "nftables") {
		t.Errorf("connections are counted: %t\n%s", counts, text)
	}

	text, _ = n.explain("testing/echo", "-o", "json", "-from", "10.42.0.2")
	var e status.Explanation
	if err := json.Unmarshal([]byte(text), &e); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if e.Schema != status.Schema || !e.Works || !e.Source.Live || len(e.NAT) != 2 || !e.NAT[0].Looked || e.NAT[0].Updated == nil || len(e.NAT[0].Frontends) != 2 {
		t.Errorf("JSON: %+v", e)
	}

	kubetest.Output(t, n.Host, "nft", "add", "table", "ip", "kube-proxy")
	n.explained(false, "testing/echo", "kube-proxy's table kube-proxy of nftables is there too", "stop kube-proxy here")
	kubetest.Output(t, n.Host, "nft", "delete", "table", "ip", "kube-proxy")

	if backend == "nftables" {
		kubetest.Output(t, n.Host, "iptables-nft", "-t", "nat", "-N", "KUBE-SERVICES")
		n.explained(false, "testing/echo", "chain KUBE-SERVICES of iptables is there too, of kube-proxy or of the backend iptables")
		kubetest.Output(t, n.Host, "iptables-nft", "-t", "nat", "-X", "KUBE-SERVICES")
	}

	n.pod("echo-1", "10.42.0.11")
	n.explained(true, "testing/echo", "leads to 2 endpoints", "50.0 %", "the kernel holds what is planned")
	n.remove("echo-0.yaml")
	n.remove("echo-1.yaml")
	n.explained(false, "10.43.0.7:8080/UDP", "port udp of testing/echo has no endpoint, so connections are refused", "IPv4: the kernel holds what is planned")
	n.write("echo-0.yaml", podManifest("echo-0", "10.42.0.10", "fd00:10:42::10"))
	n.explained(true, "testing/echo", "the kernel holds what is planned")

	p.Stop(syscall.SIGKILL)
	n.explained(true, "testing/echo", "no process answers at", "No running process was asked", "IPv4: the kernel holds what is planned", "to 10.43.0.7:8080")
	breaks := map[string][]string{
		"iptables": {"iptables -t nat -F KUBE-SEP-" + n.chain("KUBE-SEP-"), "iptables -t nat -D PREROUTING 1"},
		"nftables": {"nft delete element ip clusterip frontends { 10.43.0.7 . tcp . 8080 }", "nft flush chain ip clusterip services"},
	}[backend]
	says := map[string][]string{
		"iptables": {"has other rules: it has 0, and 2 are planned", "chain PREROUTING of table nat lacks the rule"},
		"nftables": {"map frontends has no { 10.43.0.7 . tcp . 8080 }", "chain services lacks"},
	}[backend]
	for i, command := range breaks {
		kubetest.Output(t, n.Host, "sh", "-c", strings.ReplaceAll(strings.ReplaceAll(command, "{", "'{"), "}", "}'"))
		n.explained(false, "testing/echo", "the kernel does not hold what is planned", says[i], "mend:     start coredns")
	}
	n.start()
	n.explained(true, "testing/echo", "the kernel holds what is planned ("+backend+")")
	conn.Close()
}

// chain returns the rest of the name of the first chain of IPv4 that begins so, "" if there is none.
func (n *node) chain(prefix string) string {
	n.t.Helper()
	for line := range strings.Lines(kubetest.Output(n.t, n.Host, "iptables-save", "-t", "nat")) {
		if rest, is := strings.CutPrefix(line, ":"+prefix); is {
			name, _, _ := strings.Cut(rest, " ")
			return name
		}
	}
	return ""
}

// Who has changed our rules, and when, is said as long as the process runs.
func TestExplainRepair(t *testing.T) {
	n, _ := newEcho(t, "iptables")
	n.withAdmin()
	n.start()
	n.explained(true, "testing/echo", "the kernel holds what is planned")
	kubetest.Output(t, n.Host, "iptables", "-t", "nat", "-F", "KUBE-SERVICES")
	n.explained(true, "testing/echo", "Last repair, IPv4", " had changed our rules: ", "KUBE-SERVICES")
}

// The socket outlives reloads, also those that fail, and goes with the process.
func TestAdminSocketReload(t *testing.T) {
	n, _ := newEcho(t, "nftables")
	n.withAdmin()
	p := n.start()
	n.explained(true, "testing/echo", "Process ")
	n.configure("sync_period 1s", "sync_period 2s")
	p.Signal(syscall.SIGUSR1)
	eventually(t, "the reload", p.Says("Reloading complete"))
	n.explained(true, "testing/echo", "Process ")
	n.configure("sync_period 2s", "sync_period nothing")
	p.Signal(syscall.SIGUSR1)
	eventually(t, "the failed reload", p.Says("Restart failed"))
	n.configure("sync_period nothing", "sync_period 1s")
	n.explained(true, "testing/echo", "Process ")
	p.Stop(syscall.SIGTERM)
	n.explained(true, "testing/echo", "no process answers at")
}
