package conformance

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// answer is what dig printed.
type answer struct {
	status string // NOERROR
	flags  string // "qr aa rd"
	edns   string // "version: 0, flags:; udp: 1232", or ""
	size   string // bytes received
	// Sections have one record a line, with single spaces, sorted. The serial in
	// SOA records is written as SERIAL.
	question, answer, authority, additional []string
}

var (
	statusLine = regexp.MustCompile(`status: (\w+),`)
	flagsLine  = regexp.MustCompile(`^;; flags: ([a-z ]*);`)
	sizeLine   = regexp.MustCompile(`^;; MSG SIZE +rcvd: (\d+)`)
	spaces     = regexp.MustCompile(`\s+`)
	soaSerial  = regexp.MustCompile(`( SOA \S+ \S+) \d+ `)
)

// dig sends one query, by default over UDP and without EDNS.
func dig(t *testing.T, args ...string) answer {
	t.Helper()
	args = append([]string{"@" + host, "-p", port, "+noedns", "+tries=1", "+time=5", "+nocmd"}, args...)
	out, err := exec.Command("dig", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("dig %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return parse(string(out))
}

func parse(out string) answer {
	var a answer
	var section *[]string
	sections := map[string]*[]string{
		";; QUESTION SECTION:": &a.question, ";; ANSWER SECTION:": &a.answer,
		";; AUTHORITY SECTION:": &a.authority, ";; ADDITIONAL SECTION:": &a.additional,
	}
	for l := range strings.SplitSeq(out, "\n") {
		if s, ok := sections[l]; ok {
			section = s
			continue
		}
		if m := statusLine.FindStringSubmatch(l); m != nil {
			a.status = m[1]
		}
		if m := flagsLine.FindStringSubmatch(l); m != nil {
			a.flags = m[1]
		}
		if m := sizeLine.FindStringSubmatch(l); m != nil {
			a.size = m[1]
		}
		if rest, ok := strings.CutPrefix(l, "; EDNS: "); ok {
			a.edns = rest
		}
		switch {
		case l == "":
			section = nil
		case section == &a.question:
			a.question = append(a.question, spaces.ReplaceAllString(strings.TrimPrefix(l, ";"), " "))
		case section != nil && !strings.HasPrefix(l, ";"):
			record := spaces.ReplaceAllString(l, " ")
			*section = append(*section, soaSerial.ReplaceAllString(record, "$1 SERIAL "))
		}
	}
	for _, s := range sections {
		slices.Sort(*s)
	}
	return a
}

// String is the form that tests expect: status and flags, then the records of
// each section that has any, below its name.
func (a answer) String() string {
	lines := []string{a.status + " " + a.flags}
	for _, s := range []struct {
		name    string
		records []string
	}{{"", a.answer}, {"authority", a.authority}, {"additional", a.additional}} {
		if len(s.records) > 0 && s.name != "" {
			lines = append(lines, s.name)
		}
		lines = append(lines, s.records...)
	}
	return strings.Join(lines, "\n")
}

// testCase is a query, as arguments of dig, and the whole answer.
type testCase struct {
	query, want string
}

func runCases(t *testing.T, cases []testCase) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.query, func(t *testing.T) {
			if got := dig(t, strings.Fields(c.query)...).String(); got != strings.TrimSpace(c.want) {
				t.Errorf("got\n%s\nwant\n%s", got, strings.TrimSpace(c.want))
			}
		})
	}
}

const (
	// clusterSOA is the authority of every negative answer in the forward zone.
	clusterSOA = "\nauthority\n" + apexSOA
	apexSOA    = "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 5"
	reverseSOA = "\nauthority\nin-addr.arpa. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 5"
	noData     = "NOERROR qr aa rd" + clusterSOA
	nxDomain   = "NXDOMAIN qr aa rd" + clusterSOA
)
