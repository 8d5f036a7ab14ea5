package kubetest

import (
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// Tables returns what the tables of a name in nf_tables hold, those of both IP families:
// each set and each chain with all that is in it, sorted. The order of elements decides
// nothing; counts and the tables' owner are left out.
func Tables(t testing.TB, host *netlab.Host, name string) []string {
	t.Helper()
	var all []string
	tables := Output(t, host, "nft", "list", "tables")
	for _, family := range []string{"ip", "ip6"} {
		if strings.Contains(tables, "table "+family+" "+name+"\n") {
			all = append(all, blocks(family, Output(t, host, "nft", "--stateless", "list", "table", family, name))...)
		}
	}
	slices.Sort(all)
	return all
}

// blocks returns the sets and chains of a table that nft prints.
func blocks(family, table string) []string {
	var all []string
	_, rest, _ := strings.Cut(table, "\n\t")
	for block := range strings.SplitSeq(rest, "\n\t}") {
		lines := strings.Split(strings.TrimSpace(block), "\n")
		// What is said of the table comes before its first block.
		first := slices.IndexFunc(lines, func(line string) bool { return strings.HasSuffix(line, " {") })
		if first >= 0 {
			all = append(all, family+" "+sortElements(strings.TrimSpace(strings.Join(lines[first:], "\n"))))
		}
	}
	return all
}

// sortElements puts each element of a set in a line of its own, in an order.
func sortElements(block string) string {
	head, elements, is := strings.Cut(block, "elements = {")
	if !is {
		return block
	}
	all := strings.Split(strings.TrimSuffix(strings.TrimSpace(elements), "}"), ",")
	for i, e := range all {
		all[i] = strings.ReplaceAll(strings.TrimSpace(e), " counter", "")
	}
	slices.Sort(all)
	return head + strings.Join(all, "\n\t\t")
}
