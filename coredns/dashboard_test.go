package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// metricName matches the metrics in an expression by the prefixes there are.
var metricName = regexp.MustCompile(`\b(?:coredns|kernelnat|process)_[a-z0-9_]+`)

// The dashboard names only metrics that the program has.
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
	look := func(where, expression string) {
		for _, name := range metricName.FindAllString(expression, -1) {
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
	if exposed("kernelnat_nothing_of_the_kind") {
		t.Error("every metric is taken to be there: the test says nothing")
	}
}

// exposed reports whether the name is registered: a second metric of that name is
// then refused. Metrics with labels are not gathered before they have a value.
func exposed(name string) bool {
	probe := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: "probe"})
	if prometheus.Register(probe) != nil {
		return true
	}
	prometheus.Unregister(probe)
	return false
}
