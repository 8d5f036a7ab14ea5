package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// What the tools of iptables 1.8.9 say, and what is made of it.
func TestExplainRestore(t *testing.T) {
	const input = "*nat\n:KUBE-A - [0:0]\n-A KUBE-A -j NOPE\nCOMMIT\n"
	for _, c := range []struct{ name, stderr, want string }{
		{"nft, missing chain", `iptables-nft-restore v1.8.9 (nf_tables): Chain 'NOPE' does not exist
Error occurred at line: 3
Try ` + "`iptables-nft-restore -h' or 'iptables-nft-restore --help' for more information.\n",
			`iptables-nft-restore v1.8.9 (nf_tables): Chain 'NOPE' does not exist; Error occurred at line: 3
  1: *nat
  2: :KUBE-A - [0:0]
> 3: -A KUBE-A -j NOPE
  4: COMMIT`},
		{"nft, rule to delete is missing", "iptables-nft-restore: line 2 failed: Bad rule (does a matching rule exist in that chain?).\n",
			`iptables-nft-restore: line 2 failed: Bad rule (does a matching rule exist in that chain?).
  1: *nat
> 2: :KUBE-A - [0:0]
  3: -A KUBE-A -j NOPE
  4: COMMIT`},
		{"nft, refused by the kernel", "iptables-nft-restore v1.8.9 (nf_tables): \nline 4: CHAIN_DEL failed (Device or resource busy): chain A\n",
			`iptables-nft-restore v1.8.9 (nf_tables):; line 4: CHAIN_DEL failed (Device or resource busy): chain A
  2: :KUBE-A - [0:0]
  3: -A KUBE-A -j NOPE
> 4: COMMIT`},
		{"legacy, commit", "iptables-restore: line 3 failed\n",
			`iptables-restore: line 3 failed
  1: *nat
  2: :KUBE-A - [0:0]
> 3: -A KUBE-A -j NOPE
  4: COMMIT`},
		{"lock", "Another app is currently holding the xtables lock; still 4s 0us time ahead to have a chance to grab the lock...\nAnother app is currently holding the xtables lock. Stopped waiting after 5s.\n",
			"the xtables lock was held by another program for 5 s: another iptables command, kube-proxy, the kubelet or a firewall service; see fuser /run/xtables.lock"},
		{"no capability", "iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat': Permission denied (you must be root)\n",
			"iptables-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat': Permission denied (you must be root): give the process CAP_NET_ADMIN, or run it as root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			diff(t, c.want, explainRestore(c.stderr, []byte(input)).Error())
		})
	}
}

func TestParseVersion(t *testing.T) {
	for _, c := range []struct {
		output      string
		version     version
		variant     variant
		randomFully bool
	}{
		{"iptables v1.8.9 (nf_tables)\n", version{1, 8, 9}, nft, true},
		{"ip6tables v1.8.11 (legacy)\n", version{1, 8, 11}, legacy, true},
		{"iptables v1.6.2\n", version{1, 6, 2}, legacy, true},
		{"iptables v1.6.1\n", version{1, 6, 1}, legacy, false},
		{"iptables v1.4.21\n", version{1, 4, 21}, legacy, false},
		{"iptables v2.0\n", version{2, 0, 0}, legacy, true},
	} {
		got, v, err := parseVersion(c.output)
		if err != nil || got != c.version || v != c.variant || got.hasRandomFully() != c.randomFully {
			t.Errorf("%q: %v %s %v, error %v", c.output, got, v, got.hasRandomFully(), err)
		}
	}
	if _, _, err := parseVersion("bash: iptables: no\n"); err == nil {
		t.Error("no error without a version")
	}
}

// syncFails syncs the notes' Service, which must fail with this in the error.
func (h *host) syncFails(t *testing.T, ctx context.Context, want ...string) error {
	t.Helper()
	return h.syncServicesFails(t, ctx, []plan.Service{pageService()}, want...)
}

func (h *host) syncServicesFails(t *testing.T, ctx context.Context, services []plan.Service, want ...string) error {
	t.Helper()
	err := h.Do(func() error { return newBackend(t).Sync(ctx, services) })
	if err == nil {
		t.Fatal("no error")
	}
	for _, text := range append(want, "write IPv4 rules") {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%q is not in the error %v", text, err)
		}
	}
	return err
}

func TestNoTools(t *testing.T) {
	h := newHost(t, nft)
	t.Setenv("PATH", t.TempDir())
	if err := h.syncFails(t, t.Context(), "install the package iptables"); !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	err := h.Do(func() error { return newBackend(t).Cleanup(t.Context()) })
	if err == nil || !strings.Contains(err.Error(), "install the package iptables") {
		t.Errorf("cleanup could not look and says %v", err)
	}
}

func TestNoCapability(t *testing.T) {
	h := newHost(t, nft)
	netlab.Require(t, "setpriv")
	dir := t.TempDir()
	for _, tool := range []string{"iptables-nft", "iptables-nft-save", "iptables-nft-restore"} {
		text := fmt.Sprintf("#!/bin/sh\nexec %s --bounding-set -net_admin --inh-caps -net_admin %s \"$@\"\n", realTool(t, "setpriv"), realTool(t, tool))
		if err := os.WriteFile(filepath.Join(dir, tool), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":/bin")
	h.syncFails(t, t.Context(), "give the process CAP_NET_ADMIN, or run it as root")
}

func TestRestoreHangs(t *testing.T) {
	h := newHost(t, nft)
	dir := h.replaceRestore(t, "echo $$ > $DIR/pids; sleep 1000 & echo $! >> $DIR/pids; wait")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pids := filepath.Join(dir, "pids")
	go func() {
		poll(ctx, func() bool {
			text, _ := os.ReadFile(pids)
			return strings.Count(string(text), "\n") == 2
		})
		cancel()
	}()
	h.syncFails(t, ctx, "iptables-nft-restore was killed")
	text, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for word := range strings.FieldsSeq(string(text)) {
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		deadline, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		// A killed child stays for a moment, until init has reaped it.
		if !poll(deadline, func() bool { return gone(pid) }) {
			t.Errorf("process %d is still there", pid)
		}
	}
}

func gone(pid int) bool {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || err != nil || strings.Contains(string(status), ") Z ")
}

// poll asks until the answer is true, or the context ends.
func poll(ctx context.Context, f func() bool) bool {
	for ctx.Err() == nil {
		if f() {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

func TestRestoreRejects(t *testing.T) {
	eachVariant(t, func(t *testing.T, h *host) {
		ctx, b := t.Context(), newBackend(t)
		page := pageService()
		page.Pools[0].Endpoints, page.Frontends[0].Verdict = nil, plan.Reject
		h.do(t, func() error { return b.Sync(ctx, []plan.Service{page}) })
		h.run(t, "iptables", "-t", "nat", "-F", chainMarkMasq)
		h.run(t, "iptables", "-t", "nat", "-X", chainMarkMasq)
		before := h.saved(t)
		changes := []kernelnat.Change{{Old: page, New: pageService()}}
		err := h.Do(func() error { return b.Apply(ctx, changes) })
		if err == nil || !strings.Contains(err.Error(), chainMarkMasq) || !strings.Contains(err.Error(), "\n> ") {
			t.Errorf("error %v", err)
		}
		diff(t, before, h.saved(t))
		h.do(t, func() error { return b.Sync(ctx, nil) })
		fresh := newHost(t, h.variant)
		fresh.do(t, func() error { return newBackend(t).Sync(ctx, nil) })
		diff(t, fresh.saved(t), h.saved(t))
	})
}

// When a later transaction fails, Services still have their old rules whole; the
// next Sync finishes the work.
func TestRestoreFailsHalfWay(t *testing.T) {
	h := newHost(t, nft)
	ctx, b := t.Context(), newBackend(t)
	old := services(100, 1, 10)
	h.do(t, func() error { return b.Sync(ctx, old) })
	dispatch := func() string { return h.run(t, "iptables", "-t", "nat", "-S", chainServices) }
	before := dispatch()
	next := services(200, 1, 11)
	path := os.Getenv("PATH")
	// The real tool gets the first two transactions.
	h.replaceRestore(t, `cat > $DIR/in; awk '/^\*/ && ++n == 3 {exit} {print}' $DIR/in | $REAL "$@"
[ $(grep -c '^\*' $DIR/in) -lt 3 ] || { echo "killed" >&2; exit 1; }`)
	h.syncServicesFails(t, ctx, next)
	diff(t, before, dispatch())
	if saved := h.run(t, "iptables-save", "-t", "nat"); !strings.Contains(saved, "10.42.10.0:5000") {
		t.Error("no transaction was made before the one that fails")
	}
	t.Setenv("PATH", path)
	h.do(t, func() error { return b.Sync(ctx, next) })
	fresh := newHost(t, nft)
	fresh.do(t, func() error { return newBackend(t).Sync(ctx, next) })
	diff(t, fresh.saved(t), h.saved(t))
}

func TestLockHeld(t *testing.T) {
	lock := filepath.Join(t.TempDir(), "lock")
	t.Setenv("XTABLES_LOCKFILE", lock)
	h := newHost(t, legacy)
	f, err := os.OpenFile(lock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	// One family alone: each waits for its own 5 s.
	err = h.Do(func() error {
		_, err := newBackend(t)[cluster.IPv4].Sync(t.Context(), kernelnat.State{Services: []plan.Service{pageService()}})
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "xtables lock was held by another program for 5 s") {
		t.Errorf("error %v", err)
	}
}

// An IPv6 Service without ip6tables is an error, and does not keep the others
// from their rules; without IPv6 Services nobody misses it.
func TestNoIPv6Tools(t *testing.T) {
	h := newHost(t, nft)
	dir := h.replaceRestore(t, recording)
	for _, tool := range []string{"ip6tables-nft", "ip6tables-legacy"} {
		if err := os.Remove(filepath.Join(dir, tool)); err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	all := []plan.Service{pageService()}
	h.do(t, func() error { return newBackend(t).Sync(ctx, all) })
	all[0].Pools[0].Endpoints = addrPorts("10.42.7.7:80")
	six := onePort("", cluster.TCP, addrPorts("[fd00:10:43::1]:80")[0])
	six.Frontends[0].Verdict = plan.Reject
	all[0] = backendtest.Named(all[0].Name.Name, all[0], six)
	err := h.Do(func() error { return newBackend(t).Sync(ctx, all) })
	if err == nil || !strings.Contains(err.Error(), `write IPv6 rules: exec: "ip6tables`) {
		t.Errorf("error %v", err)
	}
	if !strings.Contains(h.run(t, "iptables-save"), "10.42.7.7:80") {
		t.Error("the IPv4 rules were not written")
	}
}
