package e2e

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
)

var backend = flag.String("backend", "iptables", "the `name` of the backend in TestStartChangeCleanup, which test/kernels runs on many kernels")

// The program writes rules of both families, changes them with the manifests, leaves them
// when it ends, and removes them when it is told to.
func TestStartChangeCleanup(t *testing.T) {
	n := newNode(t, *backend)
	client := n.pod("client", "10.42.0.2", "fd00:10:42::2")
	n.remove("client.yaml")
	n.pod("echo-0", "10.42.0.10", "fd00:10:42::10")
	n.write("service.yaml", echoService)
	if rules := n.everyRule(); rules != nil {
		t.Fatalf("a new network has rules already: %q", rules)
	}
	p := n.start()
	both := []netip.AddrPort{echoIPv4, echoIPv6}
	answered := func(what, by string) {
		t.Helper()
		for _, to := range both {
			for _, network := range []string{"tcp", "udp"} {
				eventually(t, fmt.Sprintf("%s at %s %v", what, network, to), func() error {
					reply, err := ask(client, network, to)
					if err == nil && reply.Host != by {
						err = fmt.Errorf("%s answers", reply.Host)
					}
					return err
				})
			}
		}
	}
	refused := func(what string) {
		t.Helper()
		for _, to := range both {
			eventually(t, fmt.Sprintf("%s at %v", what, to), func() error {
				if _, err := ask(client, "tcp", to); !errors.Is(err, syscall.ECONNREFUSED) {
					return fmt.Errorf("not refused: %v", err)
				}
				return nil
			})
		}
	}
	answered("an answer of the first endpoint", "echo-0")

	n.pod("echo-1", "10.42.0.11", "fd00:10:42::11")
	n.remove("echo-0.yaml")
	answered("an answer of the endpoint that took over", "echo-1")
	n.remove("echo-1.yaml")
	refused("a refusal without endpoints")
	n.write("echo-0.yaml", podManifest("echo-0", "10.42.0.10", "fd00:10:42::10"))
	answered("an answer once there is an endpoint again", "echo-0")

	p.Stop(syscall.SIGTERM)
	answered("an answer while no program runs", "echo-0")
	kubetest.Output(t, n.Host, n.program, "cleanup")
	if rules := n.everyRule(); rules != nil {
		t.Errorf("cleanup leaves %q", rules)
	}
	if _, err := ask(client, "tcp", echoIPv4); err == nil {
		t.Error("the ClusterIP still answers after cleanup")
	}
}

// What of nf_tables is the tools' of iptables: tables that stay when they are empty.
var iptablesTable = regexp.MustCompile(`^table ip6? (raw|mangle|nat|filter|security)$`)

// everyRule returns the rules and chains of all tables of iptables, in both variants, and
// the names of all other tables of nf_tables.
func (n *node) everyRule() (found []string) {
	n.t.Helper()
	for _, save := range []string{"iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save"} {
		for line := range strings.Lines(kubetest.Output(n.t, n.Host, save)) {
			// A chain without policy is not of the kernel.
			if strings.HasPrefix(line, "-A ") || strings.HasPrefix(line, ":") && strings.Contains(line, " - [") {
				found = append(found, save+": "+line)
			}
		}
	}
	for line := range strings.Lines(kubetest.Output(n.t, n.Host, "nft", "list", "tables")) {
		if !iptablesTable.MatchString(strings.TrimSpace(line)) {
			found = append(found, "nft: "+line)
		}
	}
	return found
}
