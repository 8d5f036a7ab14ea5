package e2e

import (
	"errors"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
)

// drift runs coredns rules -diff on the node, and returns what it prints and its exit code.
func (n *node) drift(args ...string) (text string, code int) {
	n.t.Helper()
	cmd := exec.Command(n.program, append([]string{"rules", "-diff", "-conf", n.conf}, args...)...)
	var out []byte
	err := n.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		n.t.Fatalf("rules -diff %q: %v\n%s", args, err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// What a start would change: nothing while the program runs and when it has ended, what somebody
// has changed by hand, what kube-proxy has left, and nothing of another's table.
func TestDrift(t *testing.T) { kubetest.EachBackend(t, driftOnNode) }

func driftOnNode(t *testing.T, backend string) {
	n, _ := newEcho(t, backend)
	run := func(command string) { t.Helper(); kubetest.Output(t, n.Host, "sh", "-c", command) }
	expect := func(what string, code int, want ...string) {
		t.Helper()
		text, is := n.drift()
		for _, w := range want {
			if !regexp.MustCompile("(?m)" + w).MatchString(text) {
				t.Errorf("%s: it lacks %s:\n%s", what, w, text)
			}
		}
		if is != code {
			t.Errorf("%s: exit code %d, want %d:\n%s", what, is, code, text)
		}
	}
	all, nothing := []string{"^ of no Service alone", "^ Service testing/echo", `^IPv6: [0-9]+ would be added, 0 removed, 0 changed\.`},
		[]string{"^IPv4, " + backend + ": nothing would change", "^IPv6, " + backend + ": nothing would change"}
	expect("before the start", 1, all...)
	p := n.start()
	eventually(t, "all rules", func() error {
		if text, code := n.drift(); code != 0 {
			return errors.New(text)
		}
		return nil
	})
	expect("it runs", 0, nothing...)
	p.Stop(syscall.SIGTERM)
	run("nft add table ip theirs; nft add chain ip theirs c '{ type filter hook forward priority 0; policy drop; }'")
	run("iptables-nft -A FORWARD -s 192.0.2.1 -j ACCEPT")
	expect("it has ended, and others have rules", 0, nothing...)
	for _, c := range map[string][]struct{ command, line string }{
		"nftables": {
			{"nft delete element ip clusterip frontends '{ 10.43.0.7 . tcp . 8080 }'", `^  \+ element ip clusterip frontends \{ 10\.43\.0\.7 \. tcp \. 8080 : [0-9a-f]+:1 \}$`},
			{"nft add element ip clusterip known '{ 10.43.0.8 . tcp . 80 }'", `^  - element ip clusterip known \{ 10\.43\.0\.8 \. tcp \. 80 \}$`},
			{"nft add rule ip6 clusterip services tcp dport 9 accept", `^  - rule ip6 clusterip services \(not as kernelnat writes it; see nft list chain ip6 clusterip services\)$`},
		},
		"iptables": {
			{"iptables-nft -t nat -F KUBE-SEP-" + n.chain("KUBE-SEP-"), `^  \+ -t nat -A KUBE-SEP-[A-Z0-9]+ .*--to-destination 10\.42\.0\.10:5678$`},
			{"iptables-nft -t nat -A KUBE-SERVICES -d 10.43.0.8 -j RETURN", `^  - -t nat -A KUBE-SERVICES -d 10\.43\.0\.8/32 -j RETURN \(another's, or of other options\)$`},
			{"ip6tables-nft -t nat -D PREROUTING 1", `^  \+ -t nat -A PREROUTING .* -j KUBE-SERVICES$`},
		},
	}[backend] {
		run(c.command)
		expect(c.command, 1, c.line)
	}
	// kube-proxy's, of either mode. The chain has a name like ours, and a Service that there is not.
	run("nft add table ip kube-proxy")
	run("iptables-nft -t nat -N KUBE-SVC-AAAAAAAAAAAAAAAA; iptables-nft -t nat -A KUBE-SVC-AAAAAAAAAAAAAAAA -m comment --comment 'shop/web:http -> 10.42.0.9:80' -j RETURN")
	expect("kube-proxy's", 1, `^  - table ip kube-proxy \(kube-proxy's, in its nftables mode\)$`, map[string]string{
		"iptables": `^ Service shop/web\n  - -t nat -A KUBE-SVC-A+ .*\(of a Service that is not known here: an earlier start's, or kube-proxy's\)$`,
		"nftables": `^  - iptables-nft -t nat: 1 chains and what leads to them \(kube-proxy's, or of the backend iptables\)$`,
	}[backend])
	if text, code := n.drift("-family", "4", "-o", "json"); code != 1 || !strings.Contains(text, `"changes":true,"families":[{"family":"IPv4","backend":"`+backend+`","drift":[{"change":`) {
		t.Errorf("JSON: %d\n%s", code, text)
	}
	n.start()
	eventually(t, "the start to change it", func() error {
		if text, code := n.drift(); code != 0 {
			return errors.New(text)
		}
		return nil
	})
}
