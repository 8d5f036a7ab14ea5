package clusterip

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster/feed"
	"github.com/clusterip/clusterip/plugin/clusterip/fastpath"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin/pkg/transport"
	_ "github.com/coredns/coredns/plugin/proxyproto"
	_ "github.com/coredns/coredns/plugin/tsig"
	_ "github.com/coredns/coredns/plugin/whoami"
	"github.com/miekg/dns"
)

// besideBlock starts a server whose address ours shares with the server block of
// example.org., which has such plugins.
func besideBlock(t *testing.T, plugins string) (server string) {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "all.yaml"), fastYAML)
	port := kubetest.FreePort(t)
	text := fmt.Sprintf("example.org:%s {\nbind 127.0.0.1\n%s\nwhoami\n}\n.:%s {\nbind 127.0.0.1\nclusterip cluster.local {\nmanifests %s\n}\n}\n", port, plugins, port, dir)
	instance, err := caddy.Start(caddy.CaddyfileInput{ServerTypeName: "dns", Filepath: "Corefile", Contents: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		instance.ShutdownCallbacks()
		instance.Stop()
	})
	return fmt.Sprintf("127.0.0.1:%s", port)
}

// TestBesideTSIG signs queries for another server block with the key that it knows, and
// with another: only the server's own socket can tell them apart.
func TestBesideTSIG(t *testing.T) {
	const key, right, wrong = "key.example.org.", "NoTCJU+DMqFWywaPyxSijrDEA/eC3nK0xi3AMEZuPVk=", "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U="
	server := besideBlock(t, "tsig {\nsecret "+key+" "+right+"\nrequire all\n}")
	for secret, want := range map[string]int{right: dns.RcodeSuccess, wrong: dns.RcodeNotAuth} {
		client := &dns.Client{TsigSecret: map[string]string{key: secret}}
		query := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA).SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
		reply, _, err := client.Exchange(query, server)
		if reply == nil || err != nil && !errors.Is(err, dns.ErrAuth) {
			t.Fatalf("with a key that must get %s: %v", dns.RcodeToString[want], err)
		}
		if reply.Rcode != want {
			t.Errorf("%s, want %s", dns.RcodeToString[reply.Rcode], dns.RcodeToString[want])
		}
	}
}

// TestBesideProxyProtocol sends a query behind a header of the PROXY protocol, version 2,
// to another server block: only the server's own socket takes it off.
func TestBesideProxyProtocol(t *testing.T) {
	server := besideBlock(t, "proxyproto {\nallow 127.0.0.1/32\n}")
	query, err := new(dns.Msg).SetQuestion("www.example.org.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	conn, err := dns.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	header := []byte("\r\n\r\n\x00\r\nQUIT\n" + "\x21\x12\x00\x0c" + "\xc0\x00\x02\x01" + "\x7f\x00\x00\x01" + "\x30\x39\x00\x35")
	for range 2 { // the first may come before a fast path is there, the second not
		if _, err := conn.Conn.Write(append(header, query...)); err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		reply, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		if reply.Rcode != dns.RcodeSuccess || len(reply.Extra) == 0 || reply.Extra[0].(*dns.A).A.String() != "192.0.2.1" {
			t.Errorf("want the address in the header from whoami, got\n%v", reply)
		}
	}
}

// TestOpenAfterTheEnd has CoreDNS come to open the fast path of a server that a reload has
// ended already: it would answer in place of the server after it, for ever.
func TestOpenAfterTheEnd(t *testing.T) {
	server := &dnsserver.Server{Addr: "dns://" + besideBlock(t, "")}
	config, own := new(dnsserver.Config), new(feed.Server)
	fast.openWith(config, own, 1)
	fast.close(func(s *feed.Server) bool { return s == own })
	config.UDPDecorateWriterFunc(server)
	fast.mu.Lock()
	defer fast.mu.Unlock()
	if _, there := fast.paths[own]; there {
		t.Error("a server that has ended is there again")
	}
}

// TestEndAwaitsTheNext has a reload replace a server: its fast path goes on until the next
// server serves packets at the address, since nobody reads CoreDNS's socket before.
func TestEndAwaitsTheNext(t *testing.T) {
	f := fastServers{paths: make(map[*feed.Server]map[string]*fastPath)}
	server := func(hosts ...string) *feed.Server {
		own, config := &feed.Server{}, &dnsserver.Config{Transport: transport.DNS, ListenHosts: hosts, Port: "53"}
		f.openWith(config, own, 1)
		f.expect(config, own)
		return own
	}
	old := server("127.0.0.1", "127.0.0.2")
	f.path(old, "dns://127.0.0.1:53").group = new(fastpath.Group)
	next := server("127.0.0.1", "127.0.0.3")

	awaited := f.successors(func(s *feed.Server) bool { return s == old })
	if len(awaited) != 1 {
		t.Fatalf("%d servers are awaited, want the next one at 127.0.0.1", len(awaited))
	}
	select {
	case <-awaited[0]:
		t.Error("the next server serves before CoreDNS says so")
	default:
	}
	f.serves(next, "dns://127.0.0.1:53")
	select {
	case <-awaited[0]:
	default:
		t.Error("the next server serves, and is awaited still")
	}
	if all := f.successors(func(*feed.Server) bool { return true }); len(all) != 0 {
		t.Errorf("%d servers are awaited when the process ends", len(all))
	}
}
