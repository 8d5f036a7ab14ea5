package names

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/debian"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/miekg/dns"
)

// side is a server that is compared with the others.
type side struct {
	name string
	// Either a directive, an option of it and what caches, or another server.
	directive, option string
	cache             string
	begin             func(b *bout, port string) *family
}

// follows reports whether it follows the API server. The others are secondaries.
func (s *side) follows() bool { return s.directive != "" }

// The cache of kubeadm's Corefile leaves the cluster's names alone.
const (
	cacheOthers = "cache 30 {\n\t\tdisable success cluster.local\n\t\tdisable denial cluster.local\n\t}"
	cacheAll    = "cache 30\n\tmultisocket 2"
)

var allSides = []side{
	{name: "CoreDNS", directive: "kubernetes", cache: cacheOthers},
	{name: "CoreDNS, cache, 2 sockets", directive: "kubernetes", cache: cacheAll},
	{name: "NSD", begin: (*bout).beginNSD},
	{name: "Knot", begin: (*bout).beginKnot},
	{name: "clusterip, fastpath off", directive: "clusterip", option: "fastpath off", cache: cacheOthers},
	{name: "clusterip", directive: "clusterip", cache: cacheOthers},
}

// As kubeadm ships it. Ports are free ones, and what is not the cluster's is asked upstream at
// a server of the test.
const ordinary = `.:%[1]s {
	errors
	health 127.0.0.1:%[2]s {
		lameduck 5s
	}
	ready 127.0.0.1:%[3]s
	%[4]s cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %[5]s
		startup_timeout 1m
		pods insecure
		fallthrough in-addr.arpa ip6.arpa
		ttl 30
		%[6]s
	}
	prometheus 127.0.0.1:%[7]s
	forward . %[8]s {
		max_concurrent 1000
	}
	%[9]s
	loop
	reload
	loadbalance
}
`

func (b *bout) corefile(s *side, port string) string {
	ports := freePorts(b.t, 3)
	return fmt.Sprintf(ordinary, port, ports[0], ports[1], s.directive, b.Kubeconfig(), s.option, ports[2], b.upstream, s.cache)
}

// primaryBlock has every zone, for secondaries.
const primaryBlock = `cluster.local:%[1]s in-addr.arpa:%[1]s ip6.arpa:%[1]s {
	bind 127.0.0.1
	errors
	clusterip cluster.local in-addr.arpa ip6.arpa {
		kubeconfig %[2]s
		startup_timeout 1m
		ttl 30
	}
	transfer {
		to *
	}
}
`

var secondaryZones = []string{"cluster.local", "in-addr.arpa", "ip6.arpa"}

// contender is a side that runs.
type contender struct {
	*side
	*family
	at    netip.AddrPort
	first time.Duration // from its start to the first right answer
}

// run starts a side, and waits until it answers for the last objects.
func (b *bout) run(s *side) *contender {
	b.t.Helper()
	port := kubetest.FreePort(b.t)
	c := &contender{side: s, at: netip.MustParseAddrPort("127.0.0.1:" + port)}
	began := time.Now()
	if s.follows() {
		c.family = b.beginProgram(b.corefile(s, port))
	} else {
		primary := b.beginPrimary()
		defer primary.stop()
		began = time.Now()
		c.family = s.begin(b, port)
	}
	last := b.lastVirtual()
	newClient(b.t, port).await(crowdFQDN("", last), crowdClusterIP(last), time.Millisecond)
	if !s.follows() {
		b.awaitReverse(port)
	}
	c.first = time.Since(began)
	if s.directive == "clusterip" && s.option == "" && strings.Contains(c.Log(), "fastpath: off") {
		b.t.Errorf("%s: the fast path is off:\n%s", s.name, c.Log())
	}
	return c
}

// beginPrimary begins a server that the zones can be transferred from, and waits until it has them.
func (b *bout) beginPrimary() *family {
	b.t.Helper()
	b.primary = kubetest.FreePort(b.t)
	f := b.beginProgram(fmt.Sprintf(primaryBlock, b.primary, b.Kubeconfig()))
	last := b.lastVirtual()
	newClient(b.t, b.primary).await(crowdFQDN("", last), crowdClusterIP(last), time.Millisecond)
	return f
}

func (b *bout) beginProgram(corefile string) *family {
	b.t.Helper()
	return startFamily(b.t, []string{kubetest.Program(b.t, false), "-conf", b.write("Corefile", corefile)})
}

// write makes a file in a folder of its own.
func (b *bout) write(name, text string) string {
	b.t.Helper()
	path := filepath.Join(b.t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// beginNSD begins a secondary with as many servers as there are processors. Rates are not
// limited, and the order of addresses changes as it does everywhere here. As all servers it
// listens at all addresses, and has to look at which one it is asked.
func (b *bout) beginNSD(port string) *family {
	b.t.Helper()
	dir := b.t.TempDir()
	text := fmt.Sprintf("server:\n ip-address: 0.0.0.0@%s\n server-count: 2\n reuseport: yes\n username: \"\"\n chroot: \"\"\n database: \"\"\n"+
		" zonesdir: %[2]q\n xfrdir: %[2]q\n xfrdfile: \"%[2]s/xfrd.state\"\n zonelistfile: \"%[2]s/zone.list\"\n pidfile: \"%[2]s/nsd.pid\"\n"+
		" round-robin: yes\n rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\nremote-control:\n control-enable: no\n", port, dir)
	for _, zone := range secondaryZones {
		text += fmt.Sprintf("zone:\n name: %s\n request-xfr: AXFR 127.0.0.1@%s NOKEY\n allow-notify: 127.0.0.1 NOKEY\n", zone, b.primary)
	}
	return startFamily(b.t, append(b.fetch("nsd", "usr/sbin/nsd"), "-d", "-c", b.write("nsd.conf", text)))
}

func (b *bout) beginKnot(port string) *family {
	b.t.Helper()
	dir := b.t.TempDir()
	text := fmt.Sprintf("server:\n  listen: 0.0.0.0@%s\n  rundir: %[2]q\n  udp-workers: 2\n  answer-rotation: on\n"+
		"database:\n  storage: %[2]q\nremote:\n  - id: primary\n    address: 127.0.0.1@%[3]s\ntemplate:\n  - id: default\n    storage: %[2]q\n    master: primary\nzone:\n",
		port, dir, b.primary)
	for _, zone := range secondaryZones {
		text += fmt.Sprintf("  - domain: %s\n", zone)
	}
	return startFamily(b.t, append(b.fetch("knot", "usr/sbin/knotd"), "-c", b.write("knot.conf", text)))
}

func (b *bout) fetch(name, path string) []string {
	b.t.Helper()
	command, err := debian.Suite("bookworm").Program(name, path)
	if err != nil {
		b.t.Fatal(err)
	}
	return command
}

// awaitReverse waits until a secondary has the reverse zones too, whose last is empty.
func (b *bout) awaitReverse(port string) {
	b.t.Helper()
	client := newClient(b.t, port)
	pointer, _ := dns.ReverseAddr(crowdEndpoint(b.size*endpointsEach - 1).String())
	clustertest.Eventually(b.t, patience, "the reverse zones", func() error {
		for name, qtype := range map[string]uint16{pointer: dns.TypePTR, "ip6.arpa.": dns.TypeSOA} {
			if reply := client.exchange(new(dns.Msg).SetQuestion(name, qtype)); reply == nil || len(reply.Answer) == 0 {
				return fmt.Errorf("no answer to %s: %v", name, reply)
			}
		}
		return nil
	})
}

// knows reports whether the directive of a side has its option.
func (b *bout) knows(t *testing.T, s *side) bool {
	t.Helper()
	if s.option == "" {
		return true
	}
	conf := b.write("Corefile", b.corefile(s, kubetest.FreePort(t)))
	out, err := exec.Command(kubetest.Program(t, false), "check", "-conf", conf).CombinedOutput()
	if err != nil {
		_, text, _ := strings.Cut(string(out), " - ")
		t.Logf("%s is left out: %.70s…", s.name, text)
	}
	return err == nil
}
