package clusterip

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/clusterip/clusterip/plugin/clusterip/fastpath"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/coredns/caddy"
	_ "github.com/coredns/coredns/plugin/multisocket"
	"github.com/miekg/dns"
)

// TestReloadsOfMultisocket reloads a server that has as many sockets as GOMAXPROCS says: that
// must not count the threads of the fast path, which would go off beside more sockets.
func TestReloadsOfMultisocket(t *testing.T) {
	dir, port, before := t.TempDir(), kubetest.FreePort(t), runtime.GOMAXPROCS(0)
	write(t, filepath.Join(dir, "all.yaml"), fastYAML)
	corefile := func(more string) caddy.CaddyfileInput {
		text := fmt.Sprintf("cluster.local:%s {\nbind 127.0.0.1\nmultisocket\nclusterip {\nmanifests %s\nfastpath on threads 3\n%s\n}\n}\n", port, dir, more)
		return caddy.CaddyfileInput{ServerTypeName: "dns", Filepath: "Corefile", Contents: []byte(text)}
	}
	instance, err := caddy.Start(corefile(""))
	if err != nil {
		t.Fatal(err)
	}
	answered := func(when string) {
		t.Helper()
		clustertest.Eventually(t, 10*time.Second, "an answer of the fast path "+when, func() error {
			n := counterOf(t, "coredns_clusterip_fastpath_answers_total")
			if _, _, err := new(dns.Client).Exchange(new(dns.Msg).SetQuestion("web.default.svc.cluster.local.", dns.TypeA), "127.0.0.1:"+port); err != nil {
				return err
			}
			if counterOf(t, "coredns_clusterip_fastpath_answers_total") == n {
				return fmt.Errorf("the chain has answered")
			}
			return nil
		})
		if n := len(instance.Servers()); n != before {
			t.Errorf("%s there are %d sockets of the server, want %d", when, n, before)
		}
		clustertest.Eventually(t, 10*time.Second, "all threads "+when, func() error {
			if all, without := runtime.GOMAXPROCS(0), fastpath.Processors(); all != before+3 || without != before {
				return fmt.Errorf("GOMAXPROCS is %d, and %d without those of readers; want %d and %d", all, without, before+3, before)
			}
			return nil
		})
	}
	answered("at first")
	for range 3 {
		if instance, err = instance.Restart(corefile("")); err != nil {
			t.Fatal(err)
		}
		answered("after a reload")
		if _, err := instance.Restart(corefile("nonsense")); err == nil {
			t.Fatal("a Corefile that is wrong is taken")
		}
		answered("after a reload that failed")
	}
	instance.ShutdownCallbacks()
	instance.Stop()
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("GOMAXPROCS is %d in the end, want %d", n, before)
	}
}
