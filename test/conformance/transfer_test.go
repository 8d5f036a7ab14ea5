package conformance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
)

// server is one more server, of which dig asks with at.
type server struct{ port, dir string }

// startServer runs the program with a Corefile in which {port} is its own port.
func startServer(t *testing.T, port, corefile string) server {
	t.Helper()
	if program == "" {
		t.Skip("DNS_TEST_SUBJECT names a server that is not started here")
	}
	s := server{port, t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.dir, "Corefile"), []byte(corefile), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "manifests"), 0o700); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(program, "-dns.port", port)
	command.Dir = s.dir
	kubetest.StartOn(t, nil, command)
	return s
}

// dig asks this server; until it listens there is no status.
func (s server) dig(args string) answer {
	all := append([]string{"@127.0.0.1", "-p", s.port, "+noedns", "+tries=1", "+time=1", "+nocmd"}, strings.Fields(args)...)
	out, _ := exec.Command("dig", all...).CombinedOutput()
	return parse(string(out))
}

// eventually waits for an answer that has the record.
func (s server) eventually(t *testing.T, query, record string) {
	t.Helper()
	clustertest.Eventually(t, 30*time.Second, fmt.Sprintf("%s on port %s", query, s.port), func() error {
		if last := s.dig(query); !slices.Contains(last.answer, record) {
			return fmt.Errorf("the answer has no %q, it is\n%s", record, last)
		}
		return nil
	})
}

// put replaces a manifest in one step.
func (s server) put(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(s.dir, "manifests", name)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// zone returns a whole zone, without its SOA.
func (s server) zone(t *testing.T, origin string) []string {
	t.Helper()
	out, err := exec.Command("dig", "@127.0.0.1", "-p", s.port, "+onesoa", "+time=5", "+tries=1", origin, "AXFR").Output()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(recordsOf(string(out)), isSOA)
}

// recordsOf reads the records that dig prints of a transfer, in their order.
func recordsOf(out string) []string {
	var records []string
	for l := range strings.SplitSeq(out, "\n") {
		if l != "" && !strings.HasPrefix(l, ";") {
			records = append(records, spaces.ReplaceAllString(l, " "))
		}
	}
	return records
}

func isSOA(record string) bool { return strings.Contains(record, " IN SOA ") }

const serviceWithIP = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: %s
  ports: [{name: http, port: 80}]
`

func TestRFC5936_WholeZone(t *testing.T) {
	s := startServer(t, kubetest.FreePort(t), examples(t))
	s.eventually(t, "web.testing.svc.cluster.local A", "web.testing.svc.cluster.local. 5 IN A 10.43.0.10")
	records := s.zone(t, "cluster.local")
	if len(records) < 100 {
		t.Fatalf("the zone has only %d records", len(records))
	}
	for _, record := range records[:30] {
		fields := strings.Fields(record)
		a := s.dig("+tcp " + fields[0] + " " + fields[3])
		if !slices.Contains(a.answer, record) {
			t.Errorf("%q is in the transfer and not in the answer\n%s", record, a)
		}
	}
	for _, record := range []string{
		"cluster.local. 5 IN NS ns.dns.cluster.local.",
		"ns.dns.cluster.local. 5 IN A 127.0.0.1",
		`dns-version.cluster.local. 28800 IN TXT "1.1.0"`,
		"web.testing.svc.cluster.local. 5 IN A 10.43.0.10",
		"web.testing.svc.cluster.local. 5 IN SRV 0 50 80 web.testing.svc.cluster.local.",
		"dual.testing.svc.cluster.local. 5 IN AAAA fd00:43::11",
		"db-0.db.testing.svc.cluster.local. 5 IN A 10.42.0.70",
	} {
		if !slices.Contains(records, record) {
			t.Errorf("%q is not in the transfer", record)
		}
	}
	if pointer := "10.0.43.10.in-addr.arpa. 5 IN PTR web.testing.svc.cluster.local."; !slices.Contains(s.zone(t, "in-addr.arpa"), pointer) {
		t.Errorf("%q is not in the transfer of in-addr.arpa", pointer)
	}
}

// examples is a Corefile that serves the manifests of the other tests, and lets
// two of three zones be transferred.
func examples(t *testing.T) string {
	t.Helper()
	manifests, err := filepath.Abs(filepath.Join("testdata", "manifests"))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`cluster.local in-addr.arpa ip6.arpa {
    bind 127.0.0.1
    clusterip {
        manifests %s
        service_cidr 10.43.0.0/16 fd00:43::/112
        state state.json
    }
    transfer cluster.local in-addr.arpa {
        to *
    }
}`, manifests)
}

// What the transfer plugin does not let through is refused.
func TestRFC5936_Refused(t *testing.T) {
	s := startServer(t, kubetest.FreePort(t), examples(t))
	s.eventually(t, "web.testing.svc.cluster.local A", "web.testing.svc.cluster.local. 5 IN A 10.43.0.10")
	out, _ := exec.Command("dig", "@127.0.0.1", "-p", s.port, "+time=5", "+tries=1", "ip6.arpa", "AXFR").Output()
	if !strings.Contains(string(out), "; Transfer failed.") {
		t.Errorf("ip6.arpa could be transferred:\n%s", out)
	}
}

// A change is transferred alone to a client that knows what was before it.
func TestRFC1995_IncrementalTransfer(t *testing.T) {
	own := kubetest.FreePort(t)
	s := startServer(t, own, "cluster.local {\n bind 127.0.0.1\n clusterip {\n manifests manifests\n }\n transfer {\n to *\n }\n}\n")
	s.put(t, "web.yaml", fmt.Sprintf(serviceWithIP, "10.43.0.10"))
	s.eventually(t, "web.shop.svc.cluster.local A", "web.shop.svc.cluster.local. 5 IN A 10.43.0.10")
	before := s.serial(t)
	s.put(t, "web.yaml", fmt.Sprintf(serviceWithIP, "10.43.0.11"))
	s.eventually(t, "web.shop.svc.cluster.local A", "web.shop.svc.cluster.local. 5 IN A 10.43.0.11")
	now := s.serial(t)
	soa := func(serial string) string { return strings.Replace(apexSOA, "SERIAL", serial, 1) }

	want := []string{soa(now), soa(before), "web.shop.svc.cluster.local. 5 IN A 10.43.0.10",
		soa(now), "web.shop.svc.cluster.local. 5 IN A 10.43.0.11", soa(now)}
	if got := s.incremental(t, before); !slices.Equal(got, want) {
		t.Errorf("since %s: got\n%s\nwant\n%s", before, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := s.incremental(t, now); !slices.Equal(got, []string{soa(now)}) {
		t.Errorf("since %s, the present serial: got\n%s\nwant the SOA alone", now, strings.Join(got, "\n"))
	}
	// As a secondary of CoreDNS's kubernetes plugin has it.
	foreign := fmt.Sprint(time.Now().Unix())
	if got := s.incremental(t, foreign); len(got) < 6 || isSOA(got[1]) {
		t.Errorf("since %s, which was never ours: got\n%s\nwant the whole zone", foreign, strings.Join(got, "\n"))
	}
}

func (s server) serial(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("dig", "@127.0.0.1", "-p", s.port, "+short", "cluster.local", "SOA").Output()
	fields := strings.Fields(string(out))
	if err != nil || len(fields) != 7 {
		t.Fatalf("no SOA: %v %s", err, out)
	}
	return fields[2]
}

func (s server) incremental(t *testing.T, serial string) []string {
	t.Helper()
	out, err := exec.Command("dig", "@127.0.0.1", "-p", s.port, "+time=5", "+tries=1", "cluster.local", "IXFR="+serial).Output()
	if err != nil {
		t.Fatal(err)
	}
	return recordsOf(string(out))
}

// A secondary hears of every change and comes to have the same records.
func TestRFC1996_SecondaryFollows(t *testing.T) {
	first, second := kubetest.FreePort(t), kubetest.FreePort(t)
	zones := []string{"cluster.local", "in-addr.arpa"}
	primary := startServer(t, first, fmt.Sprintf(`cluster.local in-addr.arpa {
    bind 127.0.0.1
    clusterip {
        manifests manifests
    }
    transfer {
        to 127.0.0.1:%s
    }
}`, second))
	primary.put(t, "web.yaml", fmt.Sprintf(serviceWithIP, "10.43.0.10"))
	primary.eventually(t, "web.shop.svc.cluster.local A", "web.shop.svc.cluster.local. 5 IN A 10.43.0.10")
	secondary := startServer(t, second, fmt.Sprintf(`cluster.local in-addr.arpa {
    bind 127.0.0.1
    secondary {
        transfer from 127.0.0.1:%s
    }
    transfer {
        to *
    }
}`, first))
	for i := 10; i < 13; i++ {
		ip := fmt.Sprintf("10.43.0.%d", i)
		primary.put(t, "web.yaml", fmt.Sprintf(serviceWithIP, ip))
		secondary.eventually(t, "web.shop.svc.cluster.local A", "web.shop.svc.cluster.local. 5 IN A "+ip)
		secondary.eventually(t, "-x "+ip, fmt.Sprintf("%d.0.43.10.in-addr.arpa. 5 IN PTR web.shop.svc.cluster.local.", i))
	}
	for _, zone := range zones {
		want, got := primary.zone(t, zone), secondary.zone(t, zone)
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: the secondary has\n%s\nwant\n%s", zone, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
