package text

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/clusterip/clusterip/status"
)

func example() *status.Explanation {
	share, count := 0.25, uint64(7)
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	return &status.Explanation{
		Target: "shop/web", Verdict: "shop/web does not work: IPv4: the kernel does not hold what is planned.",
		Steps: []status.Step{
			{Name: "service", Condition: status.OK, Text: "Service shop/web"},
			{Name: "kernel", Condition: status.Wrong, Text: "IPv4: the kernel does not hold what is planned", Mend: "start coredns"},
			{Name: "kernel", Condition: status.Wrong, Text: "IPv6: likewise", Mend: "start it"},
		},
		Service: &status.Service{Name: "shop/web", Kind: "ClusterIP", Ports: []string{"http 80/TCP"}, Endpoints: []status.Endpoint{
			{Address: "10.42.0.7:80", Pod: "web-1", State: "ready", Counts: true, Share: &share, Connections: &count},
			{Address: "10.42.0.8:80", Pod: "evil\x1b[2J", State: "not ready", Reason: "not_ready"},
			{Address: "10.42.0.9:80", State: "ready"},
		}, Left: 5},
		NAT: []status.Family{{
			Family: "IPv4", Backend: "nftables", Looked: true, Others: []string{"kube-proxy runs here"},
			Frontends:  []status.Frontend{{At: "10.43.0.7:80/TCP", Kind: "cluster IP", Verdict: "forward", Endpoints: 1, Meets: []string{"map frontends"}, Wrong: []string{"map classes has no { 1 }"}}},
			LastRepair: &status.Repair{At: at, By: "nft (process 7)", What: []string{"chain services"}},
		}},
		Flows: &status.Flows{Total: 7, Ended: 4},
	}
}

func TestRender(t *testing.T) {
	got := Render(example(), Style{MaxRows: 2, Now: time.Date(2026, 11, 29, 12, 1, 0, 0, time.UTC)})
	for _, want := range []string{
		"shop/web does not work: IPv4: the kernel does not hold what is planned.\n  fails at: kernel\n  mend:     start coredns\n",
		"  ENDPOINT      POD ", "25.0 %  7\n", "no: not ready\n", `"evil\x1b[2J"`, "  and 6 more: -o json has 3\n",
		"  kernel: kube-proxy runs here\n", "    WRONG: map classes has no { 1 }\n",
		"  2026-11-29T12:00:00Z, 1m0s ago: nft (process 7) had changed our rules: chain services\n",
		"  WRONG  kernel     IPv6: likewise\n                    mend: start it\n", "Connections that the kernel tracks\n  and 3 more\n  ended, and still tracked for a while: 4\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
	for _, not := range []string{"\x1b", "10.42.0.9", "NODE", " \n"} {
		if strings.Contains(got, not) {
			t.Errorf("there is %q in\n%s", not, got)
		}
	}
}

// Colours come and go in pairs, and no sentence is wider than the terminal; tables may be.
func TestStyle(t *testing.T) {
	e := example()
	e.Steps[0].Text = strings.Repeat("word ", 60) + strings.Repeat("é", 150)
	got := Render(e, Style{Color: true, Width: 60})
	if on, off := strings.Count(got, "\x1b["), strings.Count(got, plain); on == 0 || off == 0 {
		t.Errorf("no colours:\n%s", got)
	}
	bare := Render(e, Style{Width: 60})
	if strings.Contains(bare, "\x1b") {
		t.Errorf("colours:\n%s", bare)
	}
	if strings.NewReplacer(bold, "", red, "", green, "", plain, "").Replace(got) != bare {
		t.Error("with colours the text is another")
	}
	for line := range strings.Lines(bare) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 60 && !strings.Contains(line, "10.4") && !strings.Contains(line, "ENDPOINT") {
			t.Errorf("%d characters: %q", n, line)
		}
	}
	if n := strings.Count(bare, "é"); n != 150 || strings.Count(bare, "word") != 60 {
		t.Errorf("%d of 150 are there", n)
	}
}

// The page has the same words as coredns explain.
func TestPageWords(t *testing.T) {
	const file = "../../plugin/admin/page/words.js"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for reason, words := range reasons {
		want := fmt.Sprintf("%s: %q", reason, words)
		if reason == "" {
			want = fmt.Sprintf("%q", words)
		}
		if !strings.Contains(string(page), want) {
			t.Errorf("%s lacks %s", file, want)
		}
	}
}
