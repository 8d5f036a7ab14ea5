package iptables

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// quarantine is a host as on a kernel without xt_recent: new rules of the Service sticky
// are rejected there, and it still has those from before it asked for affinity.
type quarantine struct {
	*host
	page, sticky, other plan.Service
	loaded              string // a file; while it exists, xt_recent is loaded
}

// newQuarantine has sticky's new rules rejected in a Sync that changes page and brings other.
func newQuarantine(t *testing.T, h *host) *quarantine {
	q := &quarantine{host: h, page: pageService(), sticky: pageService(), other: pageService()}
	q.sticky.Name.Name, q.sticky.Frontends[0].At = "sticky", addrPorts("10.43.0.9:80")[0]
	q.other.Name.Name, q.other.Frontends[0].At = "other", addrPorts("10.43.0.10:80")[0]
	h.do(t, func() error { return newBackend(t).Sync(t.Context(), []plan.Service{q.page, q.sticky}) })
	before := q.chainOfSticky(t)
	dir := h.replaceRestore(t, `cat > $DIR/in; line=$(grep -n -m 1 -e '-m recent' $DIR/in | cut -d: -f1)
[ -e $DIR/loaded ] || [ -z "$line" ] || { echo "iptables-restore: line $line failed" >&2; exit 1; }; $REAL "$@" < $DIR/in`)
	q.loaded = filepath.Join(dir, "loaded")
	q.sticky.Pools[0].AffinitySeconds = 10
	q.page.Pools[0].Endpoints = q.page.Pools[0].Endpoints[1:]
	err := h.Do(func() error { return newBackend(t).Sync(t.Context(), q.all()) })
	if err == nil || !strings.Contains(err.Error(), "new rules of Services [testing/sticky] are rejected, so they keep those that they had") {
		t.Errorf("error %v", err)
	}
	diff(t, before, q.chainOfSticky(t))
	return q
}

func (q *quarantine) all() []plan.Service { return []plan.Service{q.page, q.sticky, q.other} }

func (q *quarantine) chainOfSticky(t *testing.T) string {
	t.Helper()
	return q.run(t, "iptables", "-t", "nat", "-S", prefixService+hash("testing/sticky", "tcp"))
}

// A Service whose rules are rejected keeps those that it had, and keeps nobody
// from theirs.
func TestRejectedServiceIsQuarantined(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		q := newQuarantine(t, h)
		saved := h.run(t, "iptables-save", "-t", "nat")
		if !strings.Contains(saved, "testing/other cluster IP") || strings.Contains(saved, `"testing/echo-server-clusterip -> 10.42.0.49:5678"`) {
			t.Errorf("the others do not have their rules:\n%s", saved)
		}
		if !strings.Contains(saved, "-d 10.43.0.9/32") {
			t.Errorf("it is not dispatched to any more:\n%s", saved)
		}
		q.othersGoAndMoreAreRejected(t)
	})
}

// Others change as ever, and a Service whose rules are rejected is set aside until the
// kernel takes them.
func TestRejectedServiceIsSetAside(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		q, ctx, b := newQuarantine(t, h), t.Context(), newBackend(t)[cluster.IPv4]
		h.do(t, func() error {
			if _, err := b.Sync(ctx, stateOf(q.all(), cluster.IPv4)); !errors.Is(err, kernelnat.ErrPartial) {
				return fmt.Errorf("Sync: %v", err)
			}
			if !b.Untouched() {
				return errors.New("everything is to be looked at again for it")
			}
			next := pageService()
			err := b.Apply(ctx, []kernelnat.Change{{Old: q.page, New: next}})
			q.page = next
			return err
		})
		_, works := b.Large(nil)
		if len(works) != 1 || works[0].Service() != q.sticky.Name {
			t.Fatalf("%d Works", len(works))
		}
		if err := h.Do(func() error { _, err := works[0].Step(ctx); return err }); !errors.Is(err, kernelnat.ErrSetAside) {
			t.Errorf("its Work: %v", err)
		}

		if err := os.WriteFile(q.loaded, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		rest, works := b.Large([]kernelnat.Change{{Old: q.sticky, New: q.sticky}})
		if len(rest) != 0 || len(works) != 1 {
			t.Fatalf("it is tried again as %d changes and %d Works", len(rest), len(works))
		}
		h.finish(t, works[0], nil)
		diff(t, freshly(t, h.variant, q.all()), counters.ReplaceAllString(h.run(t, "iptables-save"), ""))
		if err := os.Remove(q.loaded); err != nil {
			t.Fatal(err)
		}
		q.othersGoAndMoreAreRejected(t)
	})
}

// othersGoAndMoreAreRejected checks that who goes is not dispatched to any more and sticky
// still is, however many of its kind come, whether the kernel has its new rules or not.
func (q *quarantine) othersGoAndMoreAreRejected(t *testing.T) {
	all := []plan.Service{q.page, q.sticky}
	for i := range 15 {
		more := q.sticky
		more.Name.Name = fmt.Sprint("sticky-", i)
		more.Frontends = slices.Clone(q.sticky.Frontends)
		more.Frontends[0].At = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 43, 1, byte(i)}), 80)
		all = append(all, more)
	}
	err := q.Do(func() error { return newBackend(t).Sync(t.Context(), all) })
	if !errors.Is(err, kernelnat.ErrPartial) {
		t.Errorf("error %v", err)
	}
	if saved := q.run(t, "iptables-save", "-t", "nat"); strings.Contains(saved, "-A KUBE-SERVICES -d 10.43.0.10/32") || !strings.Contains(saved, "-d 10.43.0.9/32") {
		t.Errorf("a Service that is gone is dispatched to, or the quarantined one is not:\n%s", saved)
	}
}

// A Service whose rule in a chain that all share is rejected is set aside too, also where
// that chain is there already.
func TestRejectedSharedRule(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		ctx := t.Context()
		page, bad := pageService(), pageService()
		bad.Name.Name, bad.Frontends[0].At = "bad", addrPorts("10.43.0.9:80")[0]
		bad.Frontends[0].Protocol, bad.Pools[0].Protocol, bad.Pools[0].Endpoints, bad.Frontends[0].Verdict = cluster.SCTP, cluster.SCTP, nil, plan.Reject
		// As on a kernel without xt_sctp.
		h.replaceRestore(t, `cat > $DIR/in; line=$(grep -n -m 1 -e '-m sctp' $DIR/in | cut -d: -f1)
[ -z "$line" ] || { echo "iptables-restore: line $line failed" >&2; exit 1; }; $REAL "$@" < $DIR/in`)
		b := newBackend(t)[cluster.IPv4]
		for range 3 {
			h.do(t, func() error {
				if _, err := b.Sync(ctx, stateOf([]plan.Service{page, bad}, cluster.IPv4)); !errors.Is(err, kernelnat.ErrPartial) {
					return fmt.Errorf("Sync: %v", err)
				}
				_, works := b.Large(nil)
				if len(works) != 1 {
					return fmt.Errorf("%d Works", len(works))
				}
				if _, err := works[0].Step(ctx); !errors.Is(err, kernelnat.ErrSetAside) {
					return fmt.Errorf("its Work: %v", err)
				}
				next := pageService()
				next.Frontends[0].Verdict, next.Pools[0].Endpoints = plan.Reject, nil
				return errors.Join(b.Apply(ctx, []kernelnat.Change{{Old: page, New: next}}), b.Apply(ctx, []kernelnat.Change{{Old: next, New: page}}))
			})
		}
		diff(t, freshly(t, h.variant, []plan.Service{page}), counters.ReplaceAllString(h.run(t, "iptables-save"), ""))
	})
}
