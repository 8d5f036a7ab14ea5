package demo

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// expectation says what is wrong with the output of a command, nil if nothing is.
type expectation func(out string) error

func contains(text string) expectation {
	return func(out string) error {
		if !strings.Contains(out, text) {
			return fmt.Errorf("there is no %q", text)
		}
		return nil
	}
}

func equals(text string) expectation {
	return func(out string) error {
		if got := strings.TrimSpace(out); got != text {
			return fmt.Errorf("got %q, not %q", got, text)
		}
		return nil
	}
}

func linesWith(text string, want int) expectation {
	return func(out string) error {
		lines := slices.DeleteFunc(strings.Split(out, "\n"), func(line string) bool { return !strings.Contains(line, text) })
		if got := len(lines); got != want {
			return fmt.Errorf("got %d lines with %q, not %d", got, text, want)
		}
		return nil
	}
}

func helloFrom(pods []podSpec) expectation {
	return func(out string) error {
		said := strings.TrimSpace(out)
		if !slices.ContainsFunc(pods, func(pod podSpec) bool { return hello(pod) == said }) {
			return errors.New("no pod said that")
		}
		return nil
	}
}

// addresses reads the answer of host(1) for a name.
func addresses(out, name string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	for line := range strings.Lines(out) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), name+" has address ")
		if !ok {
			return nil, fmt.Errorf("%s has no such answer", name)
		}
		a, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	return addrs, nil
}

// resolvesTo expects exactly these addresses, in any order.
func resolvesTo(name string, want ...netip.Addr) expectation {
	return func(out string) error {
		got, err := addresses(out, name)
		if err != nil {
			return err
		}
		slices.SortFunc(got, netip.Addr.Compare)
		if !slices.Equal(got, slices.SortedFunc(slices.Values(want), netip.Addr.Compare)) {
			return fmt.Errorf("%s has %v, not %v", name, got, want)
		}
		return nil
	}
}

// fields brings a rule of iptables -L to one form: columns are separated by one
// blank, and the protocols are numbers as in iptables 1.8.9 and the notes, where
// other versions write names.
func fields(line string) string {
	f := strings.Fields(line)
	for i := range f {
		if i+1 < len(f) && f[i+1] == "--" {
			switch f[i] {
			case "tcp":
				f[i] = "6"
			case "all":
				f[i] = "0"
			}
		}
	}
	return strings.Join(f, " ")
}

// serviceRule expects the rule that sends the ClusterIP's packets to its chain.
func (p *play) serviceRule(port int) expectation {
	want := fmt.Sprintf("%s 6 -- 0.0.0.0/0 %s /* testing/%s cluster IP */ tcp dpt:%d", serviceChain, p.clusterIP, serviceName, port)
	return func(out string) error {
		for line := range strings.Lines(out) {
			if fields(line) == want {
				return nil
			}
		}
		return fmt.Errorf("there is no line %q", want)
	}
}

// notesChain is the listing in the notes, but for the ClusterIP, which is random.
const notesChain = `Chain KUBE-SVC-EF6QQNEDGUCXH6TD (1 references)
num target prot opt source destination
1 KUBE-MARK-MASQ 6 -- !10.42.0.0/16 %s /* testing/echo-server-clusterip cluster IP */ tcp dpt:8080
2 KUBE-SEP-OCROO4CKUGE2RS3Z 0 -- 0.0.0.0/0 0.0.0.0/0 /* testing/echo-server-clusterip -> 10.42.0.49:5678 */ statistic mode random probability 0.33333333349
3 KUBE-SEP-BVKDY2MCK3ZCK2TS 0 -- 0.0.0.0/0 0.0.0.0/0 /* testing/echo-server-clusterip -> 10.42.1.63:5678 */ statistic mode random probability 0.50000000000
4 KUBE-SEP-XTMO5XT2DVXLF33I 0 -- 0.0.0.0/0 0.0.0.0/0 /* testing/echo-server-clusterip -> 10.42.1.64:5678 */
`

// chainOfNotes expects the notes' listing, word by word.
func (p *play) chainOfNotes(out string) error {
	var got strings.Builder
	for line := range strings.Lines(out) {
		got.WriteString(fields(line) + "\n")
	}
	if want := fmt.Sprintf(notesChain, p.clusterIP); got.String() != want {
		return fmt.Errorf("the notes have:\n%s", want)
	}
	return nil
}

var endpointRule = regexp.MustCompile(`KUBE-SEP-\w+ 0 -- \S+ \S+ /\* testing/echo-server-clusterip -> (\S+) \*/(?: statistic mode random probability ([\d.]+))?$`)

// chainOf expects one rule a pod, of which the i-th of n takes 1/(n-i) of what
// comes to it; the last has no condition.
func chainOf(pods []podSpec) expectation {
	return func(out string) error {
		var backends []string
		for line := range strings.Lines(out) {
			m := endpointRule.FindStringSubmatch(fields(line))
			if m == nil {
				continue
			}
			backends = append(backends, m[1])
			probability := 1.0
			if m[2] != "" {
				probability, _ = strconv.ParseFloat(m[2], 64)
			}
			// The kernel counts in steps of 2^-31.
			if want := 1 / float64(len(pods)-len(backends)+1); probability < want-1e-8 || probability > want+1e-8 {
				return fmt.Errorf("the probability of %s is %v, not %v", m[1], probability, want)
			}
		}
		var want []string
		for _, ip := range slices.SortedFunc(slices.Values(ips(pods)), netip.Addr.Compare) {
			want = append(want, netip.AddrPortFrom(ip, podPort).String())
		}
		if !slices.Equal(backends, want) {
			return fmt.Errorf("the rules are for %v, not %v", backends, want)
		}
		return nil
	}
}
