package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	alertsFile     = "../docs/alerts.yaml"
	alertTestsFile = "testdata/alerts_test.yaml"
	runbook        = "https://github.com/clusterip/clusterip/blob/main/docs/operations.md#"
)

type ruleFile struct {
	Groups []struct{ Rules []rule }
}

type rule struct {
	Record, Alert, Expr string
	Labels, Annotations map[string]string
}

func readRules(t *testing.T) (all []rule) {
	t.Helper()
	var file ruleFile
	readYAML(t, alertsFile, &file)
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("there are no rules")
	}
	return all
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	content, err := os.ReadFile(name)
	if err == nil {
		err = yaml.Unmarshal(content, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// Alerts name only metrics that the program has, and each has a chapter that says what to do.
func TestAlertsAreDescribed(t *testing.T) {
	operations, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	recorded := make(map[string]string)
	for _, r := range readRules(t) {
		if r.Record != "" {
			recorded[r.Record] = r.Expr
		}
	}
	for _, r := range readRules(t) {
		expression := r.Expr
		for name := range recorded {
			expression = strings.ReplaceAll(expression, name, "")
		}
		for _, name := range metricName.FindAllString(expression, -1) {
			if name = strings.TrimSuffix(name, "_bucket"); !exposed(name) {
				t.Errorf("%s%s: there is no metric %s", r.Record, r.Alert, name)
			}
		}
		if r.Alert == "" {
			continue
		}
		if r.Annotations["summary"] == "" || r.Annotations["description"] == "" || r.Labels["severity"] == "" {
			t.Errorf("%s lacks a summary, a description or a severity", r.Alert)
		}
		if want := runbook + strings.ToLower(r.Alert); r.Annotations["runbook_url"] != want {
			t.Errorf("%s: the runbook is %q, want %s", r.Alert, r.Annotations["runbook_url"], want)
		}
		if !strings.Contains(string(operations), "\n### "+r.Alert+"\n") {
			t.Errorf("%s has no chapter in docs/operations.md", r.Alert)
		}
	}
}

// promtool finds each alert to fire when it should, with the text that people get, and to be
// silent otherwise.
func TestAlertsFire(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		if os.Getenv("E2E_REQUIRED") == "1" {
			t.Fatalf("E2E_REQUIRED=1 and %v: make promtool gets it", err)
		}
		t.Skip("promtool is missing: make promtool gets it")
	}
	for _, args := range [][]string{{"check", "rules", alertsFile}, {"test", "rules", alertTestsFile}} {
		if out, err := exec.CommandContext(t.Context(), "promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Each alert is tested both ways.
func TestAlertsAreTested(t *testing.T) {
	var file struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	readYAML(t, alertTestsFile, &file)
	fires, silent := make(map[string]bool), make(map[string]bool)
	for _, test := range file.Tests {
		for _, at := range test.AlertRuleTest {
			if len(at.ExpAlerts) > 0 {
				fires[at.Alertname] = true
			} else {
				silent[at.Alertname] = true
			}
		}
	}
	for _, r := range readRules(t) {
		if r.Alert != "" && (!fires[r.Alert] || !silent[r.Alert]) {
			t.Errorf("%s is not tested to fire and to be silent", r.Alert)
		}
	}
}
