package names

import (
	"runtime"
	"slices"
	"time"

	"github.com/clusterip/clusterip/test/dnsload"
	"github.com/clusterip/clusterip/test/performance"
)

const (
	changesPerSecond = 100
	// gently is a rate that every server can answer every kind at.
	gently = 10_000
	// long is how many times as long as usual what each server does alone takes.
	long = 8
)

// alone measures a server that was just started, while no other runs: its memory, and what it
// does while endpoints change and when too much is asked of it.
func (b *bout) alone(s *side, asked []*kind) {
	b.t.Helper()
	c, result := b.run(s), b.results[s.name]
	defer c.stop()
	result.Start = c.first
	result.RSSStart, _ = c.memory()
	for _, k := range kinds {
		if k.name == mixed || k.outside {
			continue
		}
		l := b.load(c, k.name, 0)
		l.PerSecond, l.For = gently, time.Duration(len(l.Questions))*time.Second/gently
		b.do(c, "every name", l)
	}
	result.RSSAsked, _ = c.memory()
	l := b.load(c, mixed, 0)
	l.For *= long
	b.most(c, mixed, l)
	_, result.RSSMost = c.memory()
	if s.follows() {
		result.Changes = b.changes(c)
	}
	if runtime.NumCPU() > 1 {
		result.Overload = b.overload(c)
	}
}

// changes asks for all names, those of the Services that change too, without and with changes.
func (b *bout) changes(c *contender) *performance.Changing {
	b.t.Helper()
	l := b.load(c, mixed, 0)
	l.Questions = slices.Concat(l.Questions, b.questions[kinds[2].name][0])
	l.PerSecond, l.For = b.half(mixed), *benchFor*long
	quiet := b.do(c, "before changes", l)
	done := make(chan dnsload.Result)
	began, made := time.Now(), 0
	go func() { done <- b.asker.Run(l) }()
	ticker := time.NewTicker(time.Second / changesPerSecond)
	defer ticker.Stop()
	for {
		select {
		case r := <-done:
			if r.Failed != "" || r.Wrong > 0 {
				b.t.Errorf("%s: during changes: %d of %d answers are wrong: %s", c.name, r.Wrong, r.Sent, r.Failed)
			}
			took := time.Since(began)
			return &performance.Changing{Asked: l.PerSecond, PerSecond: float64(made) / took.Seconds(), Quiet: quiet.P99, P50: r.P50, P99: r.P99}
		case <-ticker.C:
			// A tick that comes during a change waits for its end, and others are made up for.
			for ; made < int(time.Since(began).Seconds()*changesPerSecond); made++ {
				b.move(b.t)
			}
		}
	}
}

// overload asks twice as much as the server can answer on one processor.
func (b *bout) overload(c *contender) *performance.Overload {
	b.t.Helper()
	c.pin(0)
	l := b.load(c, mixed, 0)
	l.CPU, l.For = 1, *benchFor*long/2
	out := &performance.Overload{}
	out.Most, _ = b.most(c, "on one processor", l)
	l.PerSecond = 2 * out.Most
	r := b.do(c, "overload", l)
	out.Asked, out.Answered = float64(r.Sent)/r.Took.Seconds(), r.Rate()
	_, out.RSS = c.memory()
	return out
}
