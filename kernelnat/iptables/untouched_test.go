package iptables

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// A host that uses nft gets no legacy tables: all its tools would warn of them.
func TestNoLegacyTablesComeIntoBeing(t *testing.T) {
	h := newHost(t, nft)
	ctx, b := t.Context(), newBackend(t)
	h.do(t, func() error {
		err := b.Sync(ctx, []plan.Service{pageService()})
		for _, f := range cluster.Families {
			b[f].Untouched()
			if loaded, _ := legacyLoaded(f); loaded {
				t.Errorf("there are legacy tables of %s", f)
			}
		}
		return err
	})
}

// What we write ourselves is no foreign write, whichever family it is in; what
// others write is, and a Sync repairs it and says what it was.
func TestUntouched(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		ctx, b := t.Context(), newBackend(t)
		all := varied()
		want := func(want bool, after string) {
			t.Helper()
			h.do(t, func() error {
				for _, f := range cluster.Families {
					if got := b[f].Untouched(); got != want {
						t.Errorf("%s after %s: untouched %t", f, after, got)
					}
				}
				return nil
			})
		}
		want(false, "nothing")
		h.do(t, func() error { return b.Sync(ctx, all) })
		h.do(t, func() error { return b.Sync(ctx, all) }) // the first of IPv6 came after that of IPv4
		want(true, "Sync")
		var changes []kernelnat.Change
		for i, s := range all {
			changes = append(changes, kernelnat.Change{Old: s, New: all[(i+1)%len(all)]})
			changes[i].New.Name = s.Name
		}
		h.do(t, func() error { return b.Apply(ctx, changes) })
		want(true, "Apply")
		for i, c := range changes {
			changes[i] = kernelnat.Change{Old: c.New, New: c.Old}
		}
		h.do(t, func() error { return b.Apply(ctx, changes) })
		want(true, "Apply")
		before := comparable(h.saved(t))

		for _, damage := range [][]string{
			{"-t", "nat", "-F"}, {"-F"}, {"-t", "nat", "-D", "PREROUTING", "1"}, {"-t", "mangle", "-X", chainCanary},
			{"-t", "nat", "-I", chainServices, "-j", "RETURN"},
		} {
			for _, tool := range []string{"iptables", "ip6tables"} {
				h.run(t, tool, damage...)
			}
			want(false, strings.Join(damage, " "))
			for _, f := range cluster.Families {
				h.do(t, func() error {
					written, err := b[f].Sync(ctx, stateOf(all, f))
					if len(written) == 0 {
						t.Errorf("%q in %s: nothing is said to be repaired", damage, f)
					}
					return err
				})
			}
			diff(t, before, comparable(h.saved(t)))
			h.do(t, func() error { return b.Sync(ctx, all) })
			want(true, "the repair")
		}
	})
}

// What one family has in the kernel already and is not done with is no foreign write
// to the other.
func TestUntouchedAmidWrite(t *testing.T) {
	h := newHost(t, nft)
	dir := h.replaceRestore(t, `$REAL "$@" || exit; if [ -p $DIR/written ]; then echo > $DIR/written; read x < $DIR/end; fi`)
	ctx, b, page := t.Context(), newBackend(t), pageService()
	h.do(t, func() error { return b.Sync(ctx, []plan.Service{page}) })
	h.do(t, func() error { return b.Sync(ctx, []plan.Service{page}) }) // the first of IPv6 came after that of IPv4
	written, end := filepath.Join(dir, "written"), filepath.Join(dir, "end")
	for _, fifo := range []string{written, end} {
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan error)
	go func() {
		ended <- h.Do(func() error {
			return b[cluster.IPv4].Apply(ctx, []kernelnat.Change{{Old: page, New: plan.Service{Name: page.Name}}})
		})
	}()
	if _, err := os.ReadFile(written); err != nil {
		t.Fatal(err)
	}
	untouched := func(want bool, when string) {
		t.Helper()
		h.do(t, func() error {
			if got := b[cluster.IPv6].Untouched(); got != want {
				t.Errorf("%s: untouched %t", when, got)
			}
			return nil
		})
	}
	untouched(true, "IPv4 is writing")
	if err := os.WriteFile(end, []byte("\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	untouched(true, "IPv4 has written")
	h.nft(t, "add table ip stranger")
	untouched(false, "somebody else has written")
}
