package differential

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/clusterip/clusterip/test/commits"
	"github.com/clusterip/clusterip/test/kubetest"
)

// kube-proxy's first sync in its iptables mode takes time quadratic in the Services: 5,000
// were not done after 9 minutes. Beyond atOnce it is started on an empty cluster instead
// and given the Services in steps, so that changes can be measured.
const (
	atOnce = 2000
	step   = 250
)

// manyWriters create the objects.
const manyWriters = 16

const benchCorefile = `.:53 {
	bind 10.42.0.1
	errors
	prometheus 127.0.0.1:9153
	clusterip cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %s
		startup_timeout 1m
	}
	kernelnat {
		backend %s
		node_name node-1
		cluster_cidr 10.42.0.0/16 fd00:10:42::/64
		conntrack_max_per_core 0
		sync_period 0
	}
}
`

// inSteps reports whether the subject is given the Services step by step.
func (r *running) inSteps() bool {
	return !r.ours && r.variant == "iptables" && len(r.given.services) > atOnce
}

// begin starts the subject, and waits until it serves the Services.
func (r *running) begin() {
	r.t.Helper()
	r.c.AddNode(kubetest.Node())
	if r.inSteps() {
		r.start()
		r.awaitFirstSync()
		r.grow()
		return
	}
	r.given.create(r.t, r.c, manyWriters)
	if r.ours {
		kubetest.Program(r.t, false) // so that it is not built on the clock
	}
	longest := commits.Wait(r.t, r.Namespace)
	start := time.Now()
	first := r.awaitConnection(clusterIP(len(r.given.services) - 1))
	r.start()
	select {
	case at := <-first:
		r.result.FirstPacket = at.Sub(start)
	case <-time.After(syncLimit):
		r.t.Fatalf("no connection within %v: %s", syncLimit, r.process.Log())
	}
	r.result.FullSync = r.awaitFirstSync().Sub(start)
	r.result.LongestWait = longest()
}

func (r *running) start() {
	r.t.Helper()
	if r.ours {
		r.process = kubetest.StartProgram(r.t, r.Host, false, fmt.Sprintf(benchCorefile, r.c.KubeconfigOn(r.Host), r.variant))
		return
	}
	// By default kube-proxy waits for a second after each sync, so that changes that come
	// faster share one. Those that are measured come one by one, and none is to wait.
	r.process = r.c.LaunchProxy(r.Node, r.variant, kubetest.NodeName, "--iptables-min-sync-period=0s")
}

// grow creates the objects in steps, and has kube-proxy write each before the next.
func (r *running) grow() {
	r.t.Helper()
	for from := 0; from < len(r.given.services); from += step {
		to := min(from+step, len(r.given.services))
		part := objects{r.given.services[from:to], r.given.slices[from:to]}
		part.create(r.t, r.c, manyWriters)
		eventually(r.t, "the rules of the first Services", func() error {
			if rules := kubetest.Output(r.t, r.Host, "iptables", "-t", "nat", "-S", "KUBE-SERVICES"); strings.Count(rules, " -j KUBE-SVC-") < to {
				return fmt.Errorf("not those of all %d", to)
			}
			return nil
		})
	}
}

// sample returns a metric of an IP family; 0 if it is not there yet.
func (r *running) sample(name, family string) float64 {
	at, prefix := netip.MustParseAddrPort("127.0.0.1:10249"), "kubeproxy"
	if r.ours {
		at, prefix = netip.MustParseAddrPort("127.0.0.1:9153"), "kernelnat"
	}
	body, err := kubetest.Get(r.Host, at, "/metrics")
	if err != nil {
		return 0
	}
	m := regexp.MustCompile(`(?m)^` + prefix + "_" + name + `\{ip_family="` + family + `"\} (\S+)$`).FindSubmatch(body)
	if m == nil {
		return 0
	}
	value, _ := strconv.ParseFloat(string(m[1]), 64)
	return value
}

// awaitFirstSync returns when both families are written, and at which time that was by
// the subject's own clock. It seldom asks: an answer takes both processors some time.
func (r *running) awaitFirstSync() time.Time {
	r.t.Helper()
	const timestamp = "sync_proxy_rules_last_timestamp_seconds"
	ctx, cancel := context.WithTimeout(r.t.Context(), syncLimit)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		v4, v6 := r.sample(timestamp, "IPv4"), r.sample(timestamp, "IPv6")
		if v4 > 0 && v6 > 0 {
			return time.UnixMicro(int64(max(v4, v6) * 1e6))
		}
		select {
		case <-ctx.Done():
			r.t.Fatalf("no first sync within %v: %s", syncLimit, r.process.Log())
		case <-ticker.C:
		}
	}
}
