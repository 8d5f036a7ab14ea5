package demo

import (
	"net/netip"
	"strings"
	"testing"
)

// The lines of the notes as they stand there.
const notesListing = `Chain KUBE-SVC-EF6QQNEDGUCXH6TD (1 references)
num  target     prot opt source               destination
1    KUBE-MARK-MASQ  6    -- !10.42.0.0/16         10.43.134.253        /* testing/echo-server-clusterip cluster IP */ tcp dpt:8080
2    KUBE-SEP-OCROO4CKUGE2RS3Z  0    --  0.0.0.0/0            0.0.0.0/0            /* testing/echo-server-clusterip -> 10.42.0.49:5678 */ statistic mode random probability 0.33333333349
3    KUBE-SEP-BVKDY2MCK3ZCK2TS  0    --  0.0.0.0/0            0.0.0.0/0            /* testing/echo-server-clusterip -> 10.42.1.63:5678 */ statistic mode random probability 0.50000000000
4    KUBE-SEP-XTMO5XT2DVXLF33I  0    --  0.0.0.0/0            0.0.0.0/0            /* testing/echo-server-clusterip -> 10.42.1.64:5678 */
`

const notesRule = "KUBE-SVC-EF6QQNEDGUCXH6TD  6    --  0.0.0.0/0            10.43.134.253        /* testing/echo-server-clusterip cluster IP */ tcp dpt:8080\n"

const notesHeadless = `echo-server-clusterip.testing.svc.cluster.local has address 10.42.1.68
echo-server-clusterip.testing.svc.cluster.local has address 10.42.0.54
echo-server-clusterip.testing.svc.cluster.local has address 10.42.1.67
`

func TestExpectations(t *testing.T) {
	notes := &play{clusterIP: netip.MustParseAddr("10.43.134.253")}
	headless := []netip.Addr{netip.MustParseAddr("10.42.0.54"), netip.MustParseAddr("10.42.1.67"), netip.MustParseAddr("10.42.1.68")}
	names := strings.NewReplacer("  6    -- ", "  tcp  -- ", "  0    -- ", "  all  -- ")
	for _, c := range []struct {
		name string
		want expectation
		out  string
		err  string // part of the complaint, "" for none
	}{
		{"the notes' rule", notes.serviceRule(8080), notesRule, ""},
		{"among others", notes.serviceRule(8080), "Chain KUBE-SVC-X (1 references)\n" + notesRule, ""},
		{"protocol by name", notes.serviceRule(8080), names.Replace(notesRule), ""},
		{"another port", notes.serviceRule(9090), notesRule, "there is no line"},
		{"no rule", notes.serviceRule(8080), "", "there is no line"},

		{"the notes' chain", notes.chainOfNotes, notesListing, ""},
		{"chain, protocols by name", notes.chainOfNotes, names.Replace(notesListing), ""},
		{"wrong probability", notes.chainOfNotes, strings.Replace(notesListing, "0.33333333349", "0.50000000000", 1), "the notes have"},
		{"chain not there yet", notes.chainOfNotes, "", "the notes have"},

		{"chain of three", chainOf(echoPods[:3]), notesListing, ""},
		{"a pod too many", chainOf(echoPods[:2]), notesListing, "probability"},
		{"a pod too few", chainOf(echoPods[:4]), notesListing, "probability"},
		{"no chain", chainOf(echoPods[:3]), "", "the rules are for []"},
		{"other pods", chainOf(echoPods[:3]), strings.Replace(notesListing, "10.42.1.64", "10.42.1.65", 1), "10.42.1.65"},
		{"last rule conditional", chainOf(echoPods[:3]),
			strings.TrimSuffix(notesListing, "\n") + " statistic mode random probability 0.50000000000\n", "not 1"},

		{"the notes' headless answer", resolvesTo(fullName, headless...), notesHeadless, ""},
		{"an address too few", resolvesTo(fullName, headless[:2]...), notesHeadless, "not [10.42.0.54 10.42.1.67]"},
		{"another name", resolvesTo("db", headless...), notesHeadless, "no such answer"},
		{"not found", resolvesTo(fullName, headless...), "Host x not found: 3(NXDOMAIN)\n", "no such answer"},
		{"no answer", resolvesTo(fullName, headless...), "", "has []"},

		{"hello", helloFrom(echoPods[:2]), hello(echoPods[1]) + "\n", ""},
		{"hello from a stranger", helloFrom(echoPods[:2]), hello(echoPods[2]) + "\n", "no pod"},
		{"lines", linesWith("a", 2), "a\nb\nba\n", ""},
		{"lines missing", linesWith("a", 3), "a\nb\nba\n", "2 lines"},
		{"equal", equals("0"), "0\n", ""},
		{"not equal", equals("0"), "10\n", `"10"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := c.want(c.out)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("complaint %v, want %q", err, c.err)
			}
		})
	}
}
