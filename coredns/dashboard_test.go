package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/kernelnat"
	"github.com/prometheus/client_golang/prometheus"
)

// metricName matches the metrics in an expression by the prefixes there are.
var metricName = regexp.MustCompile(`\b(?:coredns|kernelnat|process)_[a-z0-9_]+`)

// fastPathMetric matches those of the fast path.
var fastPathMetric = regexp.MustCompile(`\bcoredns_clusterip_fastpath_[a-z_]+`)

// The dashboard names only metrics that the program has, and all of the fast path that the
// README has.
func TestDashboard(t *testing.T) {
	content, err := os.ReadFile("../docs/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Templating struct{ List []struct{ Query string } }
		Panels     []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(content, &dashboard); err != nil {
		t.Fatalf("docs/grafana-dashboard.json: %v", err)
	}
	shown := make(map[string]bool)
	look := func(where, expression string) {
		for _, name := range metricName.FindAllString(expression, -1) {
			shown[name] = true
			name = strings.TrimSuffix(name, "_bucket")
			if !exposed(name) {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			look("panel "+p.Title, target.Expr)
		}
	}
	for _, v := range dashboard.Templating.List {
		look("variable", v.Query)
	}
	readme, err := os.ReadFile("../plugin/clusterip/README.md")
	if err != nil {
		t.Fatal(err)
	}
	described := fastPathMetric.FindAllString(string(readme), -1)
	if len(described) == 0 {
		t.Error("the README describes no metric of the fast path")
	}
	for _, name := range described {
		if !shown[name] {
			t.Errorf("no panel shows %s", name)
		}
	}
	if exposed("kernelnat_nothing_of_the_kind") {
		t.Error("every metric is taken to be there: the test says nothing")
	}
}

// exposed reports whether the name is registered, or will be where NAT is written: a second
// metric of that name is then refused. Metrics with labels are not gathered before they have a
// value.
func exposed(name string) bool {
	written := prometheus.NewRegistry()
	written.MustRegister(kernelnat.NewConnectionMetrics(kernelnat.Exported{}, nil, nil))
	for _, registry := range []prometheus.Registerer{prometheus.DefaultRegisterer, written} {
		probe := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: "probe"})
		if registry.Register(probe) != nil {
			return true
		}
		registry.Unregister(probe)
	}
	return false
}
