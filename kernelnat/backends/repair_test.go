package backends

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
)

// logged keeps what a Controller tells.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Infof(format string, args ...any) { l.add(format, args...) }

func (l *logged) Errorf(format string, args ...any) { l.add(format, args...) }

func (l *logged) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

// has fails unless a line has all these words.
func (l *logged) has(words ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		all := true
		for _, w := range words {
			all = all && strings.Contains(line, w)
		}
		if all {
			return nil
		}
	}
	return fmt.Errorf("no line with %q in %q", words, l.lines)
}

// What somebody changes is repaired long before the periodic look, which is an hour away,
// and the log says who it was. A table of nftables is not owned here, as before Linux 6.9.
func TestRepairAtOnce(t *testing.T) {
	for name, c := range map[string]struct{ prepare, change, want string }{
		"iptables": {"", "flush chain ip nat KUBE-SERVICES", "KUBE-SERVICES"},
		"nftables": {"add table ip clusterip", "flush map ip clusterip endpoints", "elements of endpoints"},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			if c.prepare != "" {
				nft(t, n, c.prepare)
			}
			chosen, _, err := Choose(name)
			if err != nil {
				t.Fatal(err)
			}
			families, err := chosen.New(netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit})
			if err != nil {
				t.Fatal(err)
			}
			log := new(logged)
			controller := kernelnat.New(kernelnat.Options{Family: cluster.IPv4, SyncPeriod: time.Hour}, families[cluster.IPv4], log)
			store := cluster.NewStore()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- n.Do(func() error { return controller.Run(ctx, store) }) }()
			defer func() {
				cancel()
				<-ended
			}()
			fill(store)
			clustertest.Eventually(t, 20*time.Second, "the rules", func() error { return log.has("all rules are in place") })
			before := ruleset(t, n)
			for range 3 {
				nft(t, n, c.change)
				clustertest.Eventually(t, 20*time.Second, "the repair", func() error {
					if now := ruleset(t, n); now != before {
						return fmt.Errorf("the rules are\n%s", now)
					}
					return log.has("nft (process ", " had changed our rules; repaired", c.want)
				})
			}
		})
	}
}

// fill has a Store know a Service with endpoints, and that it is all.
func fill(store *cluster.Store) {
	slice := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}}
	endpoint := cluster.Endpoint{Addr: netip.MustParseAddr("10.42.0.7"), Slice: slice, Ready: true, Serving: true}
	name := cluster.ServiceName{Namespace: "testing", Name: "echo"}
	service := cluster.New(cluster.Service{
		Name: name, Kind: cluster.KindClusterIP, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.43.0.10")},
		Ports: []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}},
	}, []cluster.Endpoint{endpoint})
	store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{{Name: name, Service: service}}, Synced: true})
}

func nft(t *testing.T, n *netlab.Node, command string) string {
	t.Helper()
	var out []byte
	if err := n.Do(func() (err error) {
		out, err = exec.Command("nft", strings.Fields(command)...).CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("nft %s: %v\n%s", command, err, out)
	}
	return string(out)
}

// ruleset is what nft lists, without counters.
func ruleset(t *testing.T, n *netlab.Node) string {
	t.Helper()
	return string(bytes.Join(bytes.Fields([]byte(nft(t, n, "-s list ruleset"))), []byte(" ")))
}
