package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

func TestFromManifestToPacket(t *testing.T) { kubetest.EachBackend(t, fromManifestToPacket) }

func fromManifestToPacket(t *testing.T, backend string) {
	n := newNode(t, backend)
	client := n.pod("client", "10.42.0.2", "fd00:10:42::2")
	n.remove("client.yaml") // it is no endpoint
	for i := range 3 {
		n.pod(fmt.Sprint("echo-", i), fmt.Sprint("10.42.0.1", i), fmt.Sprint("fd00:10:42::1", i))
	}
	n.write("service.yaml", echoService)
	n.start()

	eventually(t, "the name", func() error {
		m, err := lookup(client, "echo.testing.svc.cluster.local.", dns.TypeA)
		if err != nil {
			return err
		}
		if len(m.Answer) != 1 || m.Answer[0].(*dns.A).A.String() != "10.43.0.7" {
			return fmt.Errorf("answer %v", m)
		}
		return nil
	})
	for _, to := range []netip.AddrPort{echoIPv4, echoIPv6} {
		for _, network := range []string{"tcp", "udp"} {
			t.Run(fmt.Sprint(network, " ", to), func(t *testing.T) {
				eventually(t, "an answer", reaches(client, network, to))
				count := make(map[string]int)
				for range 120 {
					reply, err := ask(client, network, to)
					if err != nil {
						t.Fatal(err)
					}
					count[reply.Host]++
					if reply.Client.Addr() != client.Addr(cluster.FamilyOf(to.Addr())) {
						t.Fatalf("the pod saw the client as %v", reply.Client)
					}
				}
				// Each expects 40; over 100 of 120 has a chance below 1e-30.
				for i := range 3 {
					if c := count[fmt.Sprint("echo-", i)]; c < 5 || c > 100 {
						t.Errorf("shares %v", count)
					}
				}
			})
		}
	}
	t.Run("from outside the cluster the node's address is seen", func(t *testing.T) {
		reply, err := ask(n.Outside, "tcp", echoIPv4)
		if err != nil {
			t.Fatal(err)
		}
		if reply.Client.Addr() == n.Outside.Addr(cluster.IPv4) {
			t.Errorf("the pod saw the client as %v", reply.Client)
		}
	})
	t.Run("from the node itself", func(t *testing.T) {
		if _, err := ask(n.Host, "tcp", echoIPv4); err != nil {
			t.Error(err)
		}
	})
}

func TestServiceWithoutEndpointsIsRefused(t *testing.T) {
	kubetest.EachBackend(t, serviceWithoutEndpointsIsRefused)
}

func serviceWithoutEndpointsIsRefused(t *testing.T, backend string) {
	n := newNode(t, backend)
	client := n.pod("client", "10.42.0.2")
	n.remove("client.yaml")
	n.write("service.yaml", echoService)
	n.start()
	eventually(t, "a refusal", func() error {
		_, err := ask(client, "tcp", echoIPv4)
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Errorf("got %v", err)
		}
		return nil
	})
	n.pod("echo-0", "10.42.0.10", "fd00:10:42::10")
	eventually(t, "an answer once there is a pod", reaches(client, "tcp", echoIPv4))
}

// A UDP client that keeps its socket would be pinned to what the kernel chose
// for its first datagram.
func TestUDPFlowsFollowTheEndpoints(t *testing.T) {
	kubetest.EachBackend(t, uDPFlowsFollowTheEndpoints)
}

func uDPFlowsFollowTheEndpoints(t *testing.T, backend string) {
	n := newNode(t, backend)
	client := n.pod("client", "10.42.0.2")
	n.remove("client.yaml")
	n.start()
	conn, err := client.Dial(t.Context(), "udp", echoIPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	datagram := make([]byte, 512)
	answeredBy := func(want string) func() error {
		return func() error {
			conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := conn.Write([]byte("x")); err != nil {
				return err
			}
			size, err := conn.Read(datagram)
			if err != nil {
				return err
			}
			if host, _, _ := strings.Cut(string(datagram[:size]), " "); host != want {
				return fmt.Errorf("answered by %s", host)
			}
			return nil
		}
	}
	// A flow from before the Service: it goes to nowhere, and is remembered.
	for range 3 {
		if err := answeredBy("nobody")(); err == nil {
			t.Fatal("somebody answered")
		}
	}
	n.pod("echo-0", "10.42.0.10")
	n.write("service.yaml", strings.Replace(strings.Replace(echoService, "RequireDualStack", "SingleStack", 1), `, "fd00:10:43::7"`, "", 1))
	eventually(t, "the first endpoint", answeredBy("echo-0"))
	n.pod("echo-1", "10.42.0.11")
	n.remove("echo-0.yaml")
	eventually(t, "the endpoint that took over", answeredBy("echo-1"))
}

func TestEstablishedConnectionSurvives(t *testing.T) {
	kubetest.EachBackend(t, establishedConnectionSurvives)
}

func establishedConnectionSurvives(t *testing.T, backend string) {
	n, client := newEcho(t, backend)
	p := n.start()
	eventually(t, "an answer", reaches(client, "tcp", echoIPv4))
	conn, err := client.Dial(t.Context(), "tcp", echoIPv4)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	if _, err := r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	alive := func(after string) {
		t.Helper()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		line := after + "\n"
		if _, err := io.WriteString(conn, line); err != nil {
			t.Fatalf("after %s: %v", after, err)
		}
		if got, err := r.ReadString('\n'); got != line {
			t.Fatalf("after %s: read %q, %v", after, got, err)
		}
	}
	alive("the start")

	n.pod("echo-1", "10.42.0.11", "fd00:10:42::11")
	eventually(t, "the new endpoint in the rules", n.rulesHave("10.42.0.11:5678"))
	alive("a sync that adds an endpoint")

	n.remove("echo-0.yaml")
	eventually(t, "the old endpoint out of the rules", n.rulesLack("10.42.0.10:5678"))
	alive("its own endpoint left the Service")

	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		p.Stop(signal)
		alive("the program ended by " + signal.String())
		if _, err := ask(client, "tcp", echoIPv4); err != nil {
			t.Errorf("a new connection while no program runs: %v", err)
		}
		p = n.start()
		eventually(t, "DNS after the restart", func() error {
			_, err := lookup(client, "echo.testing.svc.cluster.local.", dns.TypeA)
			return err
		})
		alive("the restart")
	}
}

// However the manifests were edited, the kernel must hold what a fresh start on
// another node would write.
func TestEditsConvergeToAFreshStart(t *testing.T) {
	kubetest.EachBackend(t, editsConvergeToAFreshStart)
}

func editsConvergeToAFreshStart(t *testing.T, backend string) {
	const seed, edits = 7, 60
	random := rand.New(rand.NewPCG(seed, 0))
	n := newNode(t, backend)
	n.start()
	first := map[string]string{"iptables": "KUBE-SERVICES", "nftables": "chain services"}[backend]
	eventually(t, "the first sync", n.rulesHave(first))
	for range edits {
		switch name := fmt.Sprint("svc-", random.IntN(4)); random.IntN(4) {
		case 0:
			n.write(name+".yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: "+name+"\n") // broken
		case 1:
			n.write(name+".yaml", "# nothing\n")
		default:
			n.write(name+".yaml", randomService(random, name))
		}
		pod := fmt.Sprint("pod-", random.IntN(6))
		addr := fmt.Sprint("10.42.3.", 1+random.IntN(5))
		n.write(pod+".yaml", strings.Replace(podManifest(pod, addr), "app: echo", fmt.Sprint("app: a", random.IntN(3)), 1))
		if random.IntN(2) == 0 {
			time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		}
	}
	// Broken files keep their last good state, which a fresh start cannot know.
	for i := range 4 {
		name := fmt.Sprint("svc-", i)
		n.write(name+".yaml", randomService(random, name))
	}

	fresh := newNode(t, backend)
	fresh.manifests, fresh.state = n.manifests, n.state
	fresh.conf = n.conf
	eventually(t, "the same rules as after a fresh start", func() error {
		p := fresh.start()
		defer p.Stop(syscall.SIGTERM)
		eventually(t, "the fresh sync", p.Says("IPv4: all rules are in place"))
		if diff := cmp.Diff(fresh.meaning(), n.meaning()); diff != "" {
			return errors.New(diff)
		}
		return nil
	})
}

func randomService(random *rand.Rand, name string) string {
	var ports strings.Builder
	for i := range 1 + random.IntN(3) {
		protocol := []string{"TCP", "UDP", "SCTP"}[random.IntN(3)]
		fmt.Fprintf(&ports, "  - {name: p%d, protocol: %s, port: %d, targetPort: 5678}\n", i, protocol, 80+i)
	}
	ip := ""
	if random.IntN(3) == 0 {
		ip = "  clusterIP: None\n"
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: testing}\nspec:\n%s  selector: {app: a%d}\n  ports:\n%s",
		name, ip, random.IntN(3), ports.String())
}

// A reload that fails when the new server has already been started must leave
// nothing of it behind: neither its rules nor a second writer.
func TestFailedReloadChangesNothing(t *testing.T) {
	n, client := newEcho(t, "iptables")
	p := n.start()
	eventually(t, "an answer", reaches(client, "tcp", echoIPv4))

	var taken net.Listener
	err := n.Do(func() (err error) { taken, err = net.Listen("tcp", "10.42.0.1:5353"); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	rejected := fmt.Sprintf(corefile, t.TempDir(), filepath.Join(t.TempDir(), "state"), n.backend) +
		".:5353 {\n\tbind 10.42.0.1\n\twhoami\n}\n"
	if err := os.WriteFile(n.conf, []byte(rejected), 0o644); err != nil {
		t.Fatal(err)
	}
	const reloads = 4
	for i := range reloads {
		p.Signal(syscall.SIGUSR1)
		eventually(t, "the failed reload", func() error {
			if got := strings.Count(p.Log(), "Restart failed"); got != i+1 {
				return fmt.Errorf("%d failures in the log", got)
			}
			return nil
		})
	}
	n.pod("echo-1", "10.42.0.11", "fd00:10:42::11")
	eventually(t, "the new endpoint in the rules", n.rulesHave("10.42.0.11:5678"))
	if _, err := ask(client, "tcp", echoIPv4); err != nil {
		t.Error(err)
	}
	p.Stop(syscall.SIGTERM)
	if got := strings.Count(p.Log(), "IPv4: changed Services"); got != 1 {
		t.Errorf("one change was written %d times", got)
	}
	// What the log says of rules afterwards is not said of the new Corefile.
	_, after, _ := strings.Cut(p.Log(), "Restart failed")
	if got := strings.Count(p.Log(), "the new Corefile is not in force: NAT goes on with the one before it"); got != reloads || !strings.Contains(after, "IPv4: all rules are in place") {
		t.Errorf("of %d failures %d are told; after the first the log has\n%s", reloads, got, after)
	}
}

func TestPortTakenNamesTheAddress(t *testing.T) {
	n := newNode(t, "iptables")
	var l net.PacketConn
	err := n.Do(func() (err error) { l, err = net.ListenPacket("udp", dnsServer.String()); return err })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out []byte
	err = n.Do(func() (err error) { out, err = exec.Command(n.program, "-conf", n.conf).CombinedOutput(); return err })
	if err == nil {
		t.Error("the program started although its port is taken")
	}
	if !strings.Contains(string(out), "10.42.0.1:53") {
		t.Errorf("the error does not name the address:\n%s", out)
	}
}

// While endpoints come and go and the program is killed and started, not one new
// connection may fail: the pods themselves all stay up.
func TestNewConnectionsNeverFail(t *testing.T) { kubetest.EachBackend(t, newConnectionsNeverFail) }

func newConnectionsNeverFail(t *testing.T, backend string) {
	n := newNode(t, backend)
	client := n.pod("client", "10.42.0.2")
	n.remove("client.yaml")
	for i := range 4 {
		n.pod(fmt.Sprint("echo-", i), fmt.Sprint("10.42.0.1", i), fmt.Sprint("fd00:10:42::1", i))
	}
	n.write("service.yaml", echoService)
	p := n.start()
	eventually(t, "an answer", reaches(client, "tcp", echoIPv4))

	noneFailed := keepAsking(t, client)
	for round := range 6 {
		// The last pod's place is the one that changes; its server stays.
		n.remove("echo-3.yaml")
		n.write(fmt.Sprintf("other-%d.yaml", round), strings.NewReplacer("name: echo", fmt.Sprint("name: other-", round),
			"  clusterIPs: [10.43.0.7, \"fd00:10:43::7\"]\n", "").Replace(echoService))
		eventually(t, "the pod out of the rules", n.rulesLack("10.42.0.13:5678"))
		if round%2 == 1 {
			p.Stop(syscall.SIGKILL)
			p = n.start()
		}
		n.write("echo-3.yaml", podManifest("echo-3", "10.42.0.13", "fd00:10:42::13"))
		eventually(t, "the pod in the rules", n.rulesHave("10.42.0.13:5678"))
	}
	noneFailed()
}

// keepAsking makes one connection after the other, until it is called to say whether all
// were answered.
func keepAsking(t *testing.T, client *netlab.Host) (noneFailed func()) {
	stop, failed := make(chan struct{}), make(chan error, 1)
	made := 0
	go func() {
		defer close(failed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := ask(client, "tcp", echoIPv4); err != nil {
				failed <- err
				return
			}
			made++
		}
	}()
	return func() {
		t.Helper()
		close(stop)
		if err := <-failed; err != nil {
			t.Errorf("a connection failed after %d that did not: %v", made, err)
		}
		if made < 100 {
			t.Errorf("only %d connections were made", made)
		}
		t.Logf("%d connections", made)
	}
}
