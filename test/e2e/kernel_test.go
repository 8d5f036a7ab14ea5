package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/test/kubetest"
)

// kernelRules returns what the node's kernel holds of both families: what iptables-save
// prints without counters and comments, or what is in the tables of backend nftables, but
// for what no frontend uses any more: that is kept for a while.
func (n *node) kernelRules() string {
	n.t.Helper()
	if n.backend == "nftables" {
		return strings.Join(inUse(kubetest.Tables(n.t, n.Host, "clusterip")), "\n")
	}
	var all strings.Builder
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		for line := range strings.Lines(kubetest.Output(n.t, n.Host, save)) {
			if !strings.HasPrefix(line, "#") {
				line, _, _ = strings.Cut(line, " [")
				all.WriteString(strings.TrimSpace(line) + "\n")
			}
		}
	}
	return all.String()
}

// nftWords are what nft prints for some texts of iptables-save.
var nftWords = strings.NewReplacer(":5678", " . 5678", ":53", " . 53", "! -s ", "ip saddr != ")

// hasRule checks that the kernel has a rule with a text, as iptables-save prints it, or that
// it has none.
func (n *node) hasRule(text string, want bool) func() error {
	if n.backend == "nftables" {
		text = nftWords.Replace(text)
	}
	return func() error {
		if strings.Contains(n.kernelRules(), text) != want {
			return fmt.Errorf("a rule with %q is not there: %t", text, want)
		}
		return nil
	}
}

func (n *node) rulesHave(text string) func() error { return n.hasRule(text, true) }

func (n *node) rulesLack(text string) func() error { return n.hasRule(text, false) }

// sorted leaves out the order of chains and of dispatch rules, which depends on
// history and decides nothing.
func sorted(rules string) []string {
	lines := strings.Split(rules, "\n")
	slices.Sort(lines)
	return lines
}

// meaning is the kernel's rules without what depends on history and decides nothing.
func (n *node) meaning() []string {
	n.t.Helper()
	rules := n.kernelRules()
	if n.backend == "nftables" {
		rules = withNames(rules)
	}
	return sorted(rules)
}

// inUse leaves out the classes that no frontend has, and their chains.
func inUse(blocks []string) []string {
	used, chains := make(map[string]bool), make(map[string]bool)
	family := func(block string) string { return block[:strings.IndexByte(block, ' ')+1] }
	for _, b := range blocks {
		for _, m := range toClass.FindAllStringSubmatch(b, -1) {
			used[family(b)+m[1]] = true
		}
	}
	for i, b := range blocks {
		var lines []string
		for line := range strings.SplitSeq(b, "\n") {
			if m := numberedClass.FindStringSubmatch(line); m != nil {
				chain := family(b) + "chain " + m[2]
				if chains[chain] = chains[chain] || used[family(b)+m[1]]; !used[family(b)+m[1]] {
					continue
				}
			}
			lines = append(lines, line)
		}
		blocks[i] = strings.Join(lines, "\n")
	}
	return slices.DeleteFunc(blocks, func(b string) bool {
		name, _, _ := strings.Cut(b, " {")
		in, isClass := chains[name]
		return isClass && !in
	})
}

var (
	toClass       = regexp.MustCompile(`(?m) : (c0[0-9a-f]+:[0-9a-f]+)$`)
	numberedClass = regexp.MustCompile(`(c0[0-9a-f]+:[0-9a-f]+) : goto (\S+)`)
	class         = regexp.MustCompile(`c0[0-9a-f]+:[0-9a-f]+`)
	slot          = regexp.MustCompile(` \. (c1[0-9a-f])[0-9a-f]:[0-9a-f]+ : `)
)

// withNames has the names of classes in place of their numbers, and leaves out which
// endpoint is in which slot.
func withNames(rules string) string {
	names := make(map[string]string)
	for _, m := range numberedClass.FindAllStringSubmatch(rules, -1) {
		names[m[1]] = m[2]
	}
	rules = class.ReplaceAllStringFunc(rules, func(number string) string { return names[number] })
	return slot.ReplaceAllString(rules, " . $1 : ")
}
