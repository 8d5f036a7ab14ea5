package backends

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"golang.org/x/sys/unix"
)

func TestChoose(t *testing.T) {
	for _, name := range []string{Default, "nftables"} {
		b, why, err := Choose(name)
		if err != nil || b.Name != name || why != "as configured" {
			t.Errorf("%s: chosen %s, %q, %v", name, b.Name, why, err)
		}
	}
	for _, name := range []string{"ebpf", "Auto", ""} {
		_, _, err := Choose(name)
		if err == nil || !strings.Contains(err.Error(), "use auto, iptables, nftables or ipvs") {
			t.Errorf("%q: error %v", name, err)
		}
	}
}

// The kernel that tests run on has all that nftables needs.
func TestAuto(t *testing.T) {
	n := newNode(t)
	if err := n.Do(func() error {
		b, why, err := Choose(Auto)
		if err != nil || b.Name != "nftables" || why != "the kernel has all that it needs" {
			t.Errorf("chosen %s, %q, %v", b.Name, why, err)
		}
		left, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
		if len(left) > 0 {
			t.Errorf("the probe leaves %s", left)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// A kernel without nf_tables answers with one of these. Whoever lacks the capability cannot
// write rules of iptables either.
func TestKernelWithoutNfTables(t *testing.T) {
	for errno, want := range map[unix.Errno]string{
		unix.EOPNOTSUPP: Default, unix.ENOPROTOOPT: Default, unix.EPROTONOSUPPORT: Default, unix.ENOENT: Default, unix.EINVAL: Default, unix.EPERM: preferred,
	} {
		name, why := standsFor(fmt.Errorf("IPv4: %w", errno))
		if said := "nftables cannot be used here: IPv4: " + errno.Error(); name != want || name == Default && why != said || why == "" {
			t.Errorf("%v: %s, %q", errno, name, why)
		}
	}
}

// Whatever both backends have left, who comes next leaves its own rules alone, and cleanup none.
func TestLeftoversOfBoth(t *testing.T) {
	n := newNode(t)
	settings := netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit}
	syncOnce := func(families map[cluster.Family]kernelnat.Backend) error {
		for _, backend := range families {
			if _, err := backend.Sync(t.Context(), kernelnat.State{}); err != nil {
				return err
			}
			if err := backend.Close(); err != nil {
				return err
			}
		}
		return nil
	}
	leave := func() error {
		for _, b := range all {
			if b.Probe(t.Context()) != nil {
				continue // a kernel without IPVS
			}
			families, err := b.families(settings)
			if err != nil {
				return err
			}
			if err := syncOnce(families); err != nil {
				return err
			}
		}
		return nil
	}
	left := func() string {
		out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
		if err != nil {
			t.Error(err)
		}
		return string(out)
	}
	if err := n.Do(func() error {
		if err := leave(); err != nil {
			return err
		}
		if both := left(); !strings.Contains(both, "KUBE-") || !strings.Contains(both, "clusterip") {
			t.Errorf("not both have left something:\n%s", both)
		}
		b, _, err := Choose(Auto)
		if err != nil {
			return err
		}
		families, err := b.New(settings)
		if err != nil {
			return err
		}
		if err := syncOnce(families); err != nil {
			return err
		}
		if own := left(); strings.Contains(own, "KUBE-") || !strings.Contains(own, "clusterip") {
			t.Errorf("after auto:\n%s", own)
		}
		if err := errors.Join(leave(), Cleanup(t.Context())); err != nil {
			return err
		}
		if none := left(); strings.Contains(none, "KUBE-") || strings.Contains(none, "clusterip") {
			t.Errorf("after cleanup:\n%s", none)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

func newNode(t testing.TB) *netlab.Node {
	t.Helper()
	netlab.Require(t, "nft", "iptables-nft", "ip6tables-nft")
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	n, err := netlab.NewNode()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// Who comes after another backend leaves no rules but its own.
func TestSwitch(t *testing.T) {
	n := newNode(t)
	settings := netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit}
	marks := map[string]string{"iptables": "KUBE-SERVICES", "nftables": "clusterip"}
	for _, name := range []string{"iptables", "nftables", "iptables", "nftables"} {
		if err := n.Do(func() error {
			b, _, err := Choose(name)
			if err != nil {
				return err
			}
			families, err := b.New(settings)
			if err != nil {
				return err
			}
			for _, family := range cluster.Families {
				if _, err := families[family].Sync(t.Context(), kernelnat.State{}); err != nil {
					return err
				}
				defer families[family].Close()
			}
			left, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
			for of, mark := range marks {
				if has := strings.Contains(string(left), mark); has != (of == name) {
					t.Errorf("with %s the rules of %s are there: %t\n%s", name, of, has, left)
				}
			}
			return err
		}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What cannot be removed of another backend holds up nothing, and is removed by a later Sync.
func TestAnotherBackendRemains(t *testing.T) {
	n := newNode(t)
	settings := netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit}
	if err := n.Do(func() error {
		var both [2]kernelnat.Backend
		for i, name := range []string{"nftables", "iptables"} {
			b, _, err := Choose(name)
			if err != nil {
				return err
			}
			families, err := b.New(settings)
			if err != nil {
				return err
			}
			both[i] = families[cluster.IPv4]
			defer both[i].Close()
		}
		if _, err := both[0].Sync(t.Context(), kernelnat.State{}); err != nil {
			return err
		}
		if len(both[0].Tables()) > 0 {
			t.Skip("this kernel's tables cannot be owned")
		}
		if _, err := both[1].Sync(t.Context(), kernelnat.State{}); !errors.Is(err, kernelnat.ErrRemains) || !strings.Contains(err.Error(), "nftables") {
			t.Errorf("while another process owns the table: %v", err)
		}
		if err := both[1].Apply(t.Context(), nil); err != nil {
			t.Errorf("a change: %v", err)
		}
		both[0].Close()
		if _, err := both[1].Sync(t.Context(), kernelnat.State{}); err != nil {
			t.Errorf("when that process has ended: %v", err)
		}
		left, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
		if strings.Contains(string(left), "clusterip") {
			t.Errorf("left is\n%s", left)
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}

// Each is whole: it prints rules, writes them, and leaves nothing of them. Where the kernel cannot
// have it, the first Sync fails as the probe does.
func TestBackends(t *testing.T) {
	n := newNode(t)
	for _, b := range all {
		if err := n.Do(func() error {
			settings := netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit}
			families, err := b.New(settings)
			if err != nil {
				return err
			}
			for _, family := range cluster.Families {
				var rules bytes.Buffer
				if err := b.Rules(&rules, family, kernelnat.State{}, settings); err != nil || rules.Len() == 0 {
					t.Errorf("%s %s: rules %q, %v", b.Name, family, rules.String(), err)
				}
				written, err := families[family].Sync(t.Context(), kernelnat.State{})
				if probed := b.Probe(t.Context()); probed != nil {
					if !errors.Is(err, probed) || len(written) > 0 {
						t.Errorf("%s %s: wrote %q, %v; the probe says %v", b.Name, family, written, err, probed)
					}
				} else if err != nil || len(written) == 0 {
					t.Errorf("%s %s: wrote %q, %v", b.Name, family, written, err)
				}
			}
			for _, family := range cluster.Families {
				if err := families[family].Close(); err != nil {
					return err
				}
			}
			if err := Cleanup(t.Context()); err != nil {
				return err
			}
			left, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
			if strings.Contains(string(left), "KUBE-") || strings.Contains(string(left), "clusterip") {
				t.Errorf("%s leaves behind\n%s", b.Name, left)
			}
			return err
		}); err != nil {
			t.Errorf("%s: %v", b.Name, err)
		}
	}
}
