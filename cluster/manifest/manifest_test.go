package manifest

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

// Each testdata/*.txtar is a folder of manifests, the service_cidr (if not the
// default), and what comes out: "update" and "problems".
func TestLoad(t *testing.T) {
	cases, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			got := loadCase(t, archive)
			for i, file := range archive.Files {
				text, ok := got[file.Name]
				if !ok {
					continue
				}
				delete(got, file.Name)
				if *update {
					archive.Files[i].Data = []byte(text)
				} else if diff := cmp.Diff(string(file.Data), text); diff != "" {
					t.Errorf("%s differs from what is wanted (-):\n%s", file.Name, diff)
				}
			}
			for _, name := range []string{"update", "problems"} {
				if text := got[name]; text != "" {
					t.Errorf("unexpected %s:\n%s", name, text)
				}
			}
			if *update {
				if err := os.WriteFile(path, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func loadCase(t *testing.T, archive *txtar.Archive) map[string]string {
	t.Helper()
	options := Options{Dir: t.TempDir()}
	for _, file := range archive.Files {
		switch file.Name {
		case "update", "problems":
		case "service_cidr":
			for text := range strings.FieldsSeq(string(file.Data)) {
				options.ServiceCIDRs = append(options.ServiceCIDRs, netip.MustParsePrefix(text))
			}
		default:
			write(t, filepath.Join(options.Dir, file.Name), string(file.Data))
		}
	}
	u, problems, err := Load(options)
	if err != nil {
		t.Fatal(err)
	}
	if !u.Synced {
		t.Error("the Update is not Synced")
	}
	return map[string]string{"update": format(u), "problems": formatProblems(problems, options.Dir)}
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// format renders an Update for goldens.
func format(u cluster.Update) string {
	var b strings.Builder
	if u.Incomplete {
		b.WriteString("incomplete\n")
	}
	for _, s := range u.Services {
		formatService(&b, s)
	}
	for _, n := range u.Namespaces {
		fmt.Fprintf(&b, "namespace %s %s\n", n.Name, map[bool]string{true: "exists", false: "is gone"}[n.Exists])
	}
	for _, p := range u.Pods {
		if p.Pod == nil {
			fmt.Fprintf(&b, "pod %s is gone\n", p.Name)
		} else {
			fmt.Fprintf(&b, "pod %s %v\n", p.Name, p.Pod.IPs)
		}
	}
	for _, n := range u.Nodes {
		if n.Node == nil {
			fmt.Fprintf(&b, "node %s is gone\n", n.Name)
		} else {
			fmt.Fprintf(&b, "node %s addresses=%v podCIDRs=%v zone=%s\n", n.Name, n.Node.Addresses, n.Node.PodCIDRs, n.Node.Zone)
		}
	}
	return b.String()
}

func formatService(b *strings.Builder, u cluster.ServiceUpdate) {
	s := u.Service
	if s == nil {
		fmt.Fprintf(b, "service %s is gone\n", u.Name)
		return
	}
	kind := map[cluster.Kind]string{cluster.KindClusterIP: "ClusterIP", cluster.KindHeadless: "Headless", cluster.KindExternalName: "ExternalName"}[s.Kind]
	fmt.Fprintf(b, "service %s %s", u.Name, kind)
	if s.Kind == cluster.KindClusterIP {
		fmt.Fprintf(b, " %v", s.ClusterIPs)
	}
	if s.ExternalName != "" {
		fmt.Fprintf(b, " %s", s.ExternalName)
	}
	if s.InternalLocal {
		b.WriteString(" local")
	}
	for _, p := range s.Ports {
		fmt.Fprintf(b, " %s:%s/%d", p.Name, p.Protocol.Lower(), p.Port)
		if p.NodePort != 0 {
			fmt.Fprintf(b, "@%d", p.NodePort)
		}
	}
	if e := s.External; len(e.IPs)+len(e.LoadBalancerIPs) > 0 || e.Local {
		fmt.Fprintf(b, " external=%v loadBalancer=%v from=%v local=%t healthCheck=%d", e.IPs, e.LoadBalancerIPs, e.SourceRanges, e.Local, e.HealthCheckNodePort)
	}
	if s.AffinitySeconds > 0 {
		fmt.Fprintf(b, " affinity=%ds", s.AffinitySeconds)
	}
	if s.Policy != nil {
		fmt.Fprintf(b, " policy=%s", s.Policy)
	}
	b.WriteString("\n")
	for _, e := range s.Endpoints {
		fmt.Fprintf(b, "  %s", e.Addr)
		for _, p := range e.Ports() {
			fmt.Fprintf(b, " %s:%s/%d", p.Name, p.Protocol.Lower(), p.Port)
		}
		for _, part := range []struct{ name, value string }{{"hostname", e.Hostname}, {"pod", e.PodName}, {"node", e.NodeName()}, {"zone", e.Zone()}} {
			if part.value != "" {
				fmt.Fprintf(b, " %s=%s", part.name, part.value)
			}
		}
		for _, condition := range []struct {
			name string
			is   bool
		}{{"ready", e.Ready}, {"serving", e.Serving}, {"terminating", e.Terminating}} {
			if condition.is {
				b.WriteString(" " + condition.name)
			}
		}
		if len(e.ZoneHints())+len(e.NodeHints()) > 0 {
			fmt.Fprintf(b, " hints=%v%v", e.ZoneHints(), e.NodeHints())
		}
		if s.HasWeights() {
			fmt.Fprintf(b, " weight=%d", s.WeightOf(&e))
		}
		b.WriteString("\n")
	}
}

func formatProblems(problems []Problem, dir string) string {
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "%s: %s\n", p.Severity, strings.ReplaceAll(p.Error(), dir, "DIR"))
	}
	return b.String()
}
