package differential

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
)

// seed makes the objects that both sides are compared with.
const seed = 7

// difference is one that is meant: a line of kube-proxy's that ours lacks or has
// otherwise, or a line that only ours has.
type difference struct {
	reason  string         // as docs/nat.md has it
	line    *regexp.Regexp // a whole line of rules()
	ours    bool           // the line is ours, else kube-proxy's
	becomes string         // what ours has for kube-proxy's line; "" for nothing
}

const (
	byRange    = "More than 32 frontends are in chains `KUBE-SVC-0…` by range of addresses."
	refused    = "What is in the range of ClusterIPs, is no frontend and nobody else's is refused, at the end of `KUBE-SERVICES` in `filter`, in the chain `KUBE-SERVICE-RANGES`:"
	notCounted = "Packets are not counted with nfacct."
)

// rangesChain is a chain of ours that kube-proxy does not know.
var rangesChain = regexp.MustCompile(`^ip6?tables -t filter (:KUBE-SERVICE-RANGES -|-A KUBE-SERVICE-RANGES .*)$`)

var differences = []difference{
	{reason: byRange, ours: true, line: regexp.MustCompile(`^ip6?tables -t nat (:KUBE-SVC-0\S+ -|-A KUBE-\S+ .* "services in \S+" -j KUBE-SVC-0\S+)$`)},
	{reason: byRange, ours: true, line: regexp.MustCompile(`^(ip6?tables -t nat -A )KUBE-SVC-0\S+ (.*)$`), becomes: "${1}KUBE-SERVICES ${2}"},
	{
		reason: refused,
		ours:   true, line: regexp.MustCompile(`^ip6?tables -t filter -A KUBE-SERVICES -m comment .* -j KUBE-SERVICE-RANGES$`),
	},
	{reason: refused, ours: true, line: rangesChain},
	{
		reason:  "A TCP client that is refused over IPv6 is reset.",
		line:    regexp.MustCompile(`^(ip6tables -t filter -A KUBE-(?:EXTERNAL-)?SERVICES .*-p tcp .* -j REJECT --reject-with )icmp6-port-unreachable$`),
		becomes: "${1}tcp-reset",
	},
	{
		reason: "`KUBE-FIREWALL` is there for IPv4 only.",
		line:   regexp.MustCompile(`^ip6tables -t filter (:KUBE-FIREWALL -|-A (INPUT|OUTPUT) -j KUBE-FIREWALL)$`),
	},
	{reason: notCounted, line: regexp.MustCompile(`^iptables -t nat -A KUBE-NODEPORTS -d 127\.0\.0\.0/8 .* -m nfacct .*$`)},
	{reason: notCounted, line: regexp.MustCompile(`^(ip6?tables -t filter -A KUBE-FORWARD .*)-m nfacct --nfacct-name +\S+ (-j DROP)$`), becomes: "${1}${2}"},
}

// agree returns how ours differs from kube-proxy beyond what is meant.
func agree(peer, ours []string) error {
	count := make(map[string]int)
	for _, line := range peer {
		count[translate(line, false)]++
	}
	for _, line := range ours {
		count[translate(line, true)]--
	}
	delete(count, "") // what a difference takes away
	var out []string
	for line, n := range count {
		switch {
		case n > 0:
			out = append(out, "kube-proxy only: "+line)
		case n < 0:
			out = append(out, "ours only:       "+line)
		}
	}
	if len(out) == 0 {
		return nil
	}
	slices.Sort(out)
	return fmt.Errorf("%d lines differ:\n%s", len(out), strings.Join(out, "\n"))
}

func translate(line string, ours bool) string {
	for _, d := range differences {
		if d.ours == ours && d.line.MatchString(line) {
			return d.line.ReplaceAllString(line, d.becomes)
		}
	}
	return line
}

// Both write the same rules for the same objects, chain by chain.
func TestLayout(t *testing.T) {
	require(t)
	c := kubetest.Start(t)
	given := generate(seed, served)
	given.create(t, c, 1)
	given = list(t, c)
	t.Logf("%d Services, %d EndpointSlices", len(given.services), len(given.slices))

	theirs, ours := newNode(t), newNode(t)
	c.StartProxy(theirs.Node, "iptables", patience)
	ours.startOurs("iptables", given.manifests(t))
	eventually(t, "the same rules", func() error { return agree(theirs.rules(), ours.rules()) })
	sameHealthChecks(t, &given, theirs, ours)
	for _, d := range differences {
		lines := theirs.rules()
		if d.ours {
			lines = ours.rules()
		}
		if !slices.ContainsFunc(lines, d.line.MatchString) {
			t.Errorf("no line is affected by the difference %q any more", d.reason)
		}
	}
	t.Logf("%d lines of kube-proxy, %d of ours", len(theirs.rules()), len(ours.rules()))
}

// docs/nat.md lists what differs, and nothing else.
func TestDifferencesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/nat.md")
	if err != nil {
		t.Fatal(err)
	}
	var reasons, ofIPVS []string
	for _, d := range differences {
		reasons = append(reasons, d.reason)
	}
	for _, d := range ipvsDifferences {
		ofIPVS = append(ofIPVS, d.reason)
	}
	for _, d := range modeDifferences {
		reasons = append(reasons, d.reasons...)
		if d.ipvs != "" {
			ofIPVS = append(ofIPVS, d.ipvs)
		}
		if differ := d.fates.ipvs[0] != d.fates.ipvs[1]; differ != (d.ipvs != "") {
			t.Errorf("%s: ours differs from IPVS: %t, for the reason %q", d.what, differ, d.ipvs)
		}
		differ := d.fates.iptables[0] != d.fates.iptables[1] || d.fates.nftables[0] != d.fates.nftables[1]
		if differ != (len(d.reasons) > 0) {
			t.Errorf("%s: ours differs: %t, for the reasons %q", d.what, differ, d.reasons)
		}
	}
	listed(t, string(text), "## Differences from kube-proxy", reasons)
	listed(t, string(text), "### Differences from kube-proxy's IPVS mode", ofIPVS)
}

// listed fails the test unless a section lists some reasons.
func listed(t *testing.T, text, title string, reasons []string) {
	t.Helper()
	_, section, _ := strings.Cut(text, "\n"+title+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	section = strings.Join(strings.Fields(section), " ")
	for _, reason := range reasons {
		if !strings.Contains(section, "- "+reason) {
			t.Errorf("docs/nat.md does not list %q in %q", reason, title)
		}
	}
}
