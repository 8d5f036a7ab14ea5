package demo

import (
	"flag"
	"math"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestChart(t *testing.T) {
	var got strings.Builder
	for _, counts := range [][]int{{103, 97, 100}, {300, 0}, {0, 0, 0}, {1, 1000, 499, 0, 2}} {
		shares := make([]share, len(counts))
		for i, c := range counts {
			shares[i] = share{echoPods[i], c}
		}
		got.WriteString(chart(shares) + "\n")
	}
	const golden = "testdata/chart.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
}

// The critical values are those of the tables in textbooks.
func TestChiSquareTail(t *testing.T) {
	for freedom, critical := range map[int]map[float64]float64{
		1: {0.5: 0.455, 0.05: 3.841, 0.01: 6.635, 0.001: 10.828},
		2: {0.5: 1.386, 0.05: 5.991, 0.01: 9.210, 0.001: 13.816},
		3: {0.5: 2.366, 0.05: 7.815, 0.01: 11.345, 0.001: 16.266},
		4: {0.5: 3.357, 0.05: 9.488, 0.01: 13.277, 0.001: 18.467},
		9: {0.5: 8.343, 0.05: 16.919, 0.01: 21.666, 0.001: 27.877},
	} {
		for p, x := range critical {
			if got := chiSquareTail(x, freedom); math.Abs(got-p) > 0.001*p {
				t.Errorf("%d degrees of freedom, %v: p = %v, want %v", freedom, x, got, p)
			}
		}
	}
}

func TestChiSquare(t *testing.T) {
	for _, c := range []struct {
		name   string
		counts []int
		passes bool
	}{
		{"equal", []int{100, 100, 100}, true},
		{"as chance has it", []int{88, 117, 95}, true},
		{"two pods, as chance has it", []int{170, 130}, true},
		{"a pod that gets nothing", []int{150, 150, 0}, false},
		{"all to one pod", []int{300, 0}, false},
		{"skewed, but too little to tell", []int{100, 67, 133}, true},
		{"half, a sixth and a third", []int{150, 50, 100}, false},
		{"one pod has double weight", []int{167, 84, 83, 83, 83}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			statistic, p := chiSquare(c.counts)
			if (p >= leastP) != c.passes {
				t.Errorf("statistic %v, p %v; passes: %v, want %v", statistic, p, p >= leastP, c.passes)
			}
		})
	}
}

func TestCountShares(t *testing.T) {
	pods := echoPods[:2]
	a, b := hello(pods[0])+"\n", hello(pods[1])+"\n"
	for _, c := range []struct {
		name, out string
		want      []int
		err       string
	}{
		{name: "all answered", out: a + b + a, want: []int{2, 1}},
		{name: "one got nothing", out: a + a + a, want: []int{3, 0}},
		{name: "an answer is missing", out: a + b, err: "3 answers from 2 pods; got 2"},
		{name: "a stranger answered", out: a + b + hello(echoPods[2]) + "\n", err: echoPods[2].Name},
	} {
		t.Run(c.name, func(t *testing.T) {
			shares, err := countShares(c.out, 3, pods)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range c.want {
				if shares[i].count != want {
					t.Errorf("%s: %d, want %d", shares[i].pod.Name, shares[i].count, want)
				}
			}
		})
	}
}
