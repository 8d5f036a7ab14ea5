package endurance

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/kernelnat/backendtest"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/google/go-cmp/cmp"
)

var edits = flag.Int("edits", 30, "how many `times` others write where rules are")

// firewall is what a firewall does when it is reloaded: nothing is left but its own.
const firewall = `flush ruleset
table inet firewalld {
	chain filter_INPUT {
		type filter hook input priority 10; policy accept;
		ct state established,related accept
	}
	chain nat_PREROUTING {
		type nat hook prerouting priority -90; policy accept;
	}
}
`

// foreign are what others may do to a table. Those that are refused come with an error; a
// flush of all tables just leaves one alone that is owned.
var foreign = []string{
	"flush ruleset",
	firewall,
	"flush table ip clusterip",
	"delete table ip clusterip",
	"delete table ip6 clusterip",
	"flush chain ip clusterip services",
	"flush chain ip clusterip nat-prerouting",
	"flush map ip clusterip frontends",
	"delete element ip clusterip frontends { 10.43.0.7 . tcp . 80 }",
	"delete element ip clusterip known { 10.43.0.7 . udp . 80 }",
	"insert rule ip clusterip services return",
	"add rule ip6 clusterip refuse drop",
}

// echoState is a Service with endpoints, by TCP and UDP.
func echoState(family cluster.Family, pods []*netlab.Host) kernelnat.State {
	var ports []plan.Service
	for _, protocol := range []cluster.Protocol{cluster.TCP, cluster.UDP} {
		var to []netip.AddrPort
		for _, p := range pods {
			to = append(to, netip.AddrPortFrom(p.Addr(family), targetPort))
		}
		port := backendtest.Port(protocol, netip.AddrPortFrom(places[family].clusterIP, servicePort), to...)
		port.Pools[0].Port = protocol.Lower()
		ports = append(ports, port)
	}
	return kernelnat.State{Services: []plan.Service{backendtest.Named("echo", ports...)}}
}

// both are the backends of both families.
func (n *network) both() map[cluster.Family]kernelnat.Backend {
	n.Helper()
	found, err := backends.Find("nftables")
	n.must(err)
	both, err := found.New(netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit})
	n.must(err)
	return both
}

// sync writes the state of a family, and returns what was written.
func (n *network) sync(b kernelnat.Backend, state kernelnat.State) (written []string) {
	n.Helper()
	n.must(n.node.Do(func() (err error) {
		written, err = b.Sync(context.Background(), state)
		return err
	}))
	return written
}

// nft runs the program on the node, and returns what it prints and whether it could.
func (n *network) nft(input string, args ...string) (out string, err error) {
	n.Helper()
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(input)
	var text []byte
	n.must(n.node.Do(func() error { text, err = cmd.CombinedOutput(); return nil }))
	return string(text), err
}

// table is what the kernel holds in the tables of ours.
func (n *network) table() string {
	n.Helper()
	var all strings.Builder
	for _, family := range []string{"ip", "ip6"} {
		out, err := n.nft("", "--stateless", "list", "table", family, "clusterip")
		if err != nil {
			n.Fatalf("list our table: %v\n%s", err, out)
		}
		all.WriteString(out)
	}
	return all.String()
}

// Nobody else can write to a table that is owned: whatever is tried, no connection is lost
// and nothing has changed.
func TestOwnedTable(t *testing.T) {
	netlab.Require(t, "nft")
	n := newNetwork(t)
	pods := n.echoes(3)
	both := n.both()
	for family, b := range both {
		defer b.Close()
		n.sync(b, echoState(family, pods))
		if len(b.Tables()) > 0 {
			t.Skip("this kernel's tables cannot be owned and stay")
		}
	}
	before := n.table()
	a := n.ask(patience)
	refused := 0
	for i := range *edits {
		edit := foreign[i%len(foreign)]
		if _, err := n.nft(edit, "-f", "-"); err != nil {
			refused++
		}
	}
	n.noneLost(a)
	t.Logf("%d edits, of which %d were refused", *edits, refused)
	if diff := cmp.Diff(sorted(before), sorted(n.table())); diff != "" {
		t.Error(diff)
	}
	for family, b := range both {
		var untouched bool
		n.must(n.node.Do(func() error { untouched = b.Untouched(); return nil }))
		if !untouched {
			t.Errorf("%s counts as touched", family)
		}
		if written := n.sync(b, echoState(family, pods)); len(written) > 0 {
			t.Errorf("%s: %q has been written", family, written)
		}
	}
}

// Where a table is not owned, as on kernels before 6.9, what others have done to it is
// noticed, and the next Sync mends it. What is lost until then is told.
func TestForeignEditsAreRepaired(t *testing.T) {
	netlab.Require(t, "nft")
	n := newNetwork(t)
	pods := n.echoes(3)
	for i := range min(*edits, len(foreign)) {
		n.repair(foreign[i], pods)
	}
}

// repair has somebody write to a table that nobody owns: the nft program has made it.
func (n *network) repair(edit string, pods []*netlab.Host) {
	n.Helper()
	both := n.both()
	for family, b := range both {
		defer b.Close()
		var rules bytes.Buffer
		n.must(n.node.Do(func() error {
			return errors.Join(b.Cleanup(context.Background()), printed(&rules, family, echoState(family, pods)))
		}))
		if out, err := n.nft(rules.String(), "-f", "-"); err != nil {
			n.Fatalf("%v\n%s", err, out)
		}
		n.sync(b, echoState(family, pods)) // nft writes some rules in another way
		if len(b.Tables()) == 0 {
			n.Fatal("a table that another program has made counts as owned")
		}
	}
	before := n.table()
	a := n.ask(time.Second)
	began := time.Now()
	if out, err := n.nft(edit, "-f", "-"); err != nil {
		n.Fatalf("%s: %v\n%s", edit, err, out)
	}
	repaired := 0
	for family, b := range both {
		var untouched bool
		n.must(n.node.Do(func() error { untouched = b.Untouched(); return nil }))
		if untouched {
			n.Errorf("%s does not notice %q", family, edit)
		}
		repaired += len(n.sync(b, echoState(family, pods)))
	}
	took := time.Since(began)
	for _, network := range []string{"tcp", "udp"} {
		for family := range both {
			if err := ask(n.client, network, netip.AddrPortFrom(places[family].clusterIP, servicePort), patience); err != nil {
				n.Errorf("after the repair of %q: %v", edit, err)
			}
		}
	}
	made, lost := a.end()
	n.Logf("%s: repaired within %v, %d of %d connections lost", strings.SplitN(edit, "\n", 2)[0], took.Round(time.Millisecond), len(lost), made)
	if repaired == 0 {
		n.Errorf("nothing is told to have been repaired of %q", edit)
	}
	if diff := cmp.Diff(sorted(before), sorted(n.table())); diff != "" {
		n.Errorf("after the repair of %q:\n%s", edit, diff)
	}
}

// sorted leaves out what means nothing: the order of elements and chains, and whether the
// table is owned.
func sorted(table string) (lines []string) {
	for line := range strings.Lines(strings.ReplaceAll(table, ",", "\n")) {
		line = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "elements = {")), "}"))
		if line != "" && line != "persist" && line != "flags owner" && !strings.HasPrefix(line, "table ") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

func printed(w *bytes.Buffer, family cluster.Family, state kernelnat.State) error {
	found, err := backends.Find("nftables")
	if err != nil {
		return err
	}
	if err := found.Rules(w, family, state, netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit}); err != nil {
		return fmt.Errorf("print rules: %w", err)
	}
	return nil
}
