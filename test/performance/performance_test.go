package performance

import (
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var write = flag.Bool("page.write", false, "write docs/performance.md and the charts; otherwise they are compared with the results")

const docs = "../../docs"

// docs/performance.md shows the results that are stored beside it, and nothing else.
func TestPage(t *testing.T) {
	results := filepath.Join(docs, "performance")
	nat, err := Load[NAT](results, "nat")
	if err != nil {
		t.Fatal(err)
	}
	alone, err := Load[NAT](results, "alone")
	if err != nil {
		t.Fatal(err)
	}
	dns, err := Load[DNS](results, "dns")
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(docs, "performance.md")
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	filled, err := Fill(string(text), map[string]string{"nat": nat.Tables(), "alone": alone.Tables(), "dns": dns.Tables()})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		page: filled, filepath.Join(results, "nat.svg"): nat.Chart(), filepath.Join(results, "dns.svg"): dns.Chart(),
	} {
		if *write {
			if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
				t.Error(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s is not what the results make: make performance (%v)", path, err)
		}
	}
}

func TestFill(t *testing.T) {
	const page = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n"
	got, err := Fill(page, map[string]string{"x": "| new |\n"})
	if want := "a\n<!-- begin x -->\n\n| new |\n\n<!-- end x -->\nb\n"; err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	if again, err := Fill(got, map[string]string{"x": "| new |\n"}); err != nil || again != got {
		t.Errorf("filled again: %q, %v", again, err)
	}
	if _, err := Fill(page, map[string]string{"y": ""}); err == nil {
		t.Error("a part without a place is left out")
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "", 420 * time.Nanosecond: "", 1234 * time.Nanosecond: "1.23 µs", 35_700 * time.Microsecond: "35.7 ms", 594 * time.Millisecond: "594 ms",
		1060 * time.Millisecond: "1.06 s", 28_800 * time.Millisecond: "28.8 s", 2 * time.Hour: "7,200 s", 99_970 * time.Microsecond: "100 ms",
	} {
		if got := duration(d); got != want {
			t.Errorf("%d ns: %q, want %q", d, got, want)
		}
	}
}

func TestQuantilesOf(t *testing.T) {
	var took []time.Duration
	for i := range 101 {
		took = append(took, time.Duration(100-i))
	}
	if got, want := QuantilesOf(took), (Quantiles{101, 50, 99, 100}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

// What was not measured is told as such; columns and tables of nothing are left out.
func TestTables(t *testing.T) {
	results := NAT{
		{Name: "ours", Services: 1000, FirstPacket: time.Second, FullSync: 2 * time.Second, RSSStart: 80},
		{Name: "theirs", Services: 1000, RSSStart: 90},
		{Name: "ours", Services: 10_000},
	}
	want := `**The process starts**

| Services |  | first packet | everything written | memory |
| ---: | --- | ---: | ---: | ---: |
| 1,000 | ours | 1.00 s | 2.00 s | 80 MiB |
|  | theirs | - | - | 90 MiB |
`
	if got := results.Tables(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The chart is well-formed, and shows each value that was measured.
func TestChart(t *testing.T) {
	results := NAT{
		{Name: "ours", Services: 1000, FirstPacket: 300 * time.Millisecond, Change: Quantiles{300, 420 * time.Microsecond, 2 * time.Millisecond, 0}},
		{Name: "theirs", Services: 1000, Change: Quantiles{300, 35 * time.Millisecond, 60 * time.Millisecond, 0}},
	}
	checkChart(t, results.Chart(), ">ours<", ">theirs<", ">1,000<", ">300 ms<", ">420 µs, 2.00 ms<", ">35.0 ms, 60.0 ms<", ">not measured<")
}

// checkChart wants a chart to be well-formed, and to have texts.
func checkChart(t *testing.T, chart string, texts ...string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(chart))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, chart)
		}
	}
	for _, text := range texts {
		if !strings.Contains(chart, text) {
			t.Errorf("the chart has no %q", text)
		}
	}
}
