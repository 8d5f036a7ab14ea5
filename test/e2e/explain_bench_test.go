package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
)

// BenchmarkExplain measures what a person waits for: coredns explain of one Service among 10,000 of
// ten endpoints, which a running process answers with a look at the kernel. cpu-ms/op is that process's,
// and start is the same command when it is asked for its usage alone.
func BenchmarkExplain(b *testing.B) {
	const services = 10_000
	netlab.Require(b, "iptables", "ip6tables", "iptables-save", "nft")
	for _, backend := range []string{"nftables", "iptables"} {
		b.Run(backend, func(b *testing.B) {
			n := kubetest.NewNode(b)
			program, folder := kubetest.Program(b, false), b.TempDir()
			conf := filepath.Join(folder, "Corefile")
			text := fmt.Sprintf(".:53 {\n\tbind 10.42.0.1\n\terrors\n\tadmin %[1]s/admin.sock\n\tclusterip cluster.local {\n\t\tmanifests %[1]s/manifests\n\t\tservice_cidr 10.96.0.0/12\n\t}\n"+
				"\tkernelnat {\n\t\tbackend %[2]s\n\t\thealthz off\n\t\tcluster_cidr 10.128.0.0/9\n\t}\n}\n", folder, backend)
			if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			if err := os.Mkdir(filepath.Join(folder, "manifests"), 0o700); err != nil {
				b.Fatal(err)
			}
			clustertest.WriteFolder(b, filepath.Join(folder, "manifests"), services)
			p := kubetest.StartOn(b, n.Host, exec.Command(program, "-conf", conf))
			explain := func(args ...string) error {
				return n.Do(exec.Command(program, append([]string{"explain", "-conf", conf}, args...)...).Run)
			}
			// What has no route to its endpoints does not work.
			kubetest.Output(b, n.Host, "ip", "route", "add", "10.128.0.0/9", "via", "10.42.0.2")
			clustertest.Eventually(b, 15*time.Minute, "all rules are written", func() error { return explain("ns-99/service-9999") })
			b.Run("start", func(b *testing.B) {
				for b.Loop() {
					if err := n.Do(exec.Command(program, "explain", "-h").Run); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("explain", func(b *testing.B) {
				before := p.CPU()
				for i := 0; b.Loop(); i++ {
					of := 1 + i%96
					if err := explain(fmt.Sprintf("ns-%d/service-%d", of, of)); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64((p.CPU()-before).Microseconds())/1000/float64(b.N), "cpu-ms/op")
			})
		})
	}
}
