package demo

import (
	"fmt"
	"math"
	"strings"
)

// share is how many connections a pod got.
type share struct {
	pod   podSpec
	count int
}

// chart draws one bar a share; a full bar is chartWidth characters.
func chart(shares []share) string {
	const chartWidth = 40
	total, most, name := 0, 1, 0
	for _, s := range shares {
		total += s.count
		most, name = max(most, s.count), max(name, len(s.pod.Name))
	}
	var b strings.Builder
	for _, s := range shares {
		bar := strings.Repeat("█", (s.count*chartWidth+most/2)/most)
		bar += strings.Repeat(" ", chartWidth-len([]rune(bar)))
		fmt.Fprintf(&b, "%-*s  %-11s %s %4d  %5.1f %%\n",
			name, s.pod.Name, s.pod.IP, bar, s.count, 100*float64(s.count)/float64(max(total, 1)))
	}
	return b.String()
}

// chiSquare tests the hypothesis that each connection took any of the pods with
// the same probability. It returns Pearson's statistic and the probability p of
// one at least as large under the hypothesis. It needs two counts or more, and
// some connections.
func chiSquare(counts []int) (statistic, p float64) {
	total := 0
	for _, c := range counts {
		total += c
	}
	expected := float64(total) / float64(len(counts))
	for _, c := range counts {
		statistic += (float64(c) - expected) * (float64(c) - expected) / expected
	}
	return statistic, chiSquareTail(statistic, len(counts)-1)
}

// chiSquareTail is the probability that a chi-square variable with the degrees of
// freedom exceeds x: the regularised gamma function Q(k/2, x/2), from k = 1 or 2
// upwards by Q(a+1, y) = Q(a, y) + y^a e^-y / Γ(a+1) (DLMF 8.8.6).
func chiSquareTail(x float64, freedom int) float64 {
	y, a := x/2, 1.0
	q := math.Exp(-y)
	if freedom%2 == 1 {
		a, q = 0.5, math.Erfc(math.Sqrt(y))
	}
	for ; a < float64(freedom)/2; a++ {
		q += math.Pow(y, a) * math.Exp(-y) / math.Gamma(a+1)
	}
	return q
}
