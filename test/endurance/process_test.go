package endurance

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

var kills = flag.Int("kills", 3, "how many `times` the program is killed")

func TestMain(m *testing.M) { kubetest.Main(m.Run) }

const corefile = `.:%[1]d {
	bind 10.42.0.1
	errors
	clusterip cluster.local {
		manifests %[2]s
		state %[3]s
		service_cidr 10.43.0.0/16 fd00:10:43::/108
	}
	kernelnat {
		backend nftables
		node_name node-1
		cluster_cidr 10.42.0.0/16 fd00:10:42::/64
		conntrack_max_per_core 0
	}
}
`

const echoManifest = `apiVersion: v1
kind: Service
metadata: {name: echo, namespace: testing}
spec:
  type: NodePort
  selector: {app: echo}
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.43.0.7, "fd00:10:43::7"]
  ports:
  - {name: tcp, protocol: TCP, port: 80, targetPort: 5678, nodePort: 30080}
  - {name: udp, protocol: UDP, port: 80, targetPort: 5678, nodePort: 30080}
`

// echoPod is a manifest of a pod that echoes makes.
func echoPod(pod *netlab.Host) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: testing, labels: {app: echo}}
spec: {nodeName: node-1, containers: [{name: echo, image: echo}]}
status: {podIPs: [{ip: %s}, {ip: "%s"}], conditions: [{type: Ready, status: "True"}]}
`, pod.Name, pod.Addrs[0], pod.Addrs[1])
}

// program is the real one with a folder of manifests.
type program struct {
	*network
	dir string
}

func newProgram(n *network, pods []*netlab.Host) *program {
	n.Helper()
	p := &program{n, n.TempDir()}
	n.must(os.Mkdir(filepath.Join(p.dir, "manifests"), 0o755))
	p.write("manifests/echo.yaml", echoManifest)
	for _, pod := range pods {
		p.write("manifests/"+pod.Name+".yaml", echoPod(pod))
	}
	for _, port := range []int{53, 54} {
		p.write(fmt.Sprint("Corefile-", port), fmt.Sprintf(corefile, port, p.dir+"/manifests", fmt.Sprint(p.dir, "/state-", port)))
	}
	return p
}

func (p *program) write(name, text string) {
	p.Helper()
	p.must(os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644))
}

// start runs it, with DNS at a port.
func (p *program) start(port int) *kubetest.Process {
	p.Helper()
	return kubetest.StartOn(p, p.node.Host, exec.Command(kubetest.Program(p, false), "-conf", filepath.Join(p.dir, fmt.Sprint("Corefile-", port))))
}

// eventually fails the test unless the conditions come true in good time.
func (p *program) eventually(what string, condition func() error) {
	p.Helper()
	clustertest.Eventually(p, 2*patience, what, condition)
}

// inPlace waits until the kernel holds everything.
func (p *program) inPlace(process *kubetest.Process) {
	p.Helper()
	for _, family := range []string{"IPv4", "IPv6"} {
		p.eventually(family, process.Says(family+": all rules are in place"))
	}
}

// writes are what is written to nf_tables, counted by the kind of message.
type writes struct {
	conn  *netlink.Conn
	mu    sync.Mutex
	count map[string]int
	marks int
	fault error
}

// watch counts what is written to the node's nf_tables, by whomever.
func (n *network) watch() *writes {
	n.Helper()
	w := &writes{count: make(map[string]int)}
	n.must(n.node.Do(func() (err error) {
		w.conn, err = netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{Groups: 1 << (unix.NFNLGRP_NFTABLES - 1)})
		if err != nil {
			return err
		}
		return w.conn.SetReadBuffer(8 << 20)
	}))
	var running sync.WaitGroup
	running.Go(w.run)
	n.Cleanup(func() { w.conn.Close(); running.Wait() })
	return w
}

// mark is a table of another family, by which a test knows that it has been told all.
const mark = "written"

func (w *writes) run() {
	for {
		all, err := w.conn.Receive()
		w.mu.Lock()
		for _, m := range all {
			switch kind := uint16(m.Header.Type) & 0xff; {
			case kind == unix.NFT_MSG_NEWGEN:
			case m.Data[0] != unix.NFPROTO_INET:
				w.count[fmt.Sprint("message ", kind)]++
			case kind == unix.NFT_MSG_DELTABLE:
				w.marks++
			}
		}
		w.fault = err
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// written returns what was written to our tables since the last time.
func (p *program) written(w *writes) map[string]int {
	p.Helper()
	w.mu.Lock()
	marks := w.marks
	w.mu.Unlock()
	if out, err := p.nft("add table inet "+mark+"\ndelete table inet "+mark, "-f", "-"); err != nil {
		p.Fatalf("%v\n%s", err, out)
	}
	p.eventually("a mark", func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.fault != nil {
			return w.fault
		}
		if w.marks == marks {
			return errors.New("the kernel has not told of it")
		}
		return nil
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	all := w.count
	w.count = make(map[string]int)
	return all
}

// nothing fails the test if something was written to our tables but whose they are, or if
// others can write to them.
func (p *program) nothing(w *writes, after string) {
	p.Helper()
	if out, err := p.nft("", "flush", "ruleset"); err != nil {
		p.Fatalf("%v\n%s", err, out)
	}
	all := p.written(w)
	delete(all, fmt.Sprint("message ", unix.NFT_MSG_NEWTABLE))
	if len(all) > 0 {
		p.Errorf("after %s the table was written to: %v", after, all)
	}
}

// However the program ends and begins again, no connection is lost, and what the kernel
// holds is taken over as it is.
func TestProcessesFollowEachOther(t *testing.T) {
	netlab.Require(t, "nft")
	n := newNetwork(t)
	p := newProgram(n, n.echoes(3))
	w := n.watch()
	process := p.start(53)
	p.inPlace(process)
	if out, err := n.nft("", "list", "ruleset"); err != nil || !strings.Contains(out, "flags owner") {
		t.Skip("this kernel's tables cannot be owned and stay")
	}
	if len(p.written(w)) == 0 {
		t.Fatal("the kernel does not tell what is written")
	}
	a := n.ask(patience)
	for i := range *kills {
		process.Stop(syscall.SIGKILL)
		process = p.start(53)
		p.inPlace(process)
		p.nothing(w, fmt.Sprint("kill ", i+1))
	}
	process.Stop(syscall.SIGTERM)
	process = p.start(53)
	p.inPlace(process)
	p.nothing(w, "SIGTERM and a start")

	process.Signal(syscall.SIGUSR1)
	p.eventually("the reload", func() error {
		if strings.Count(process.Log(), "IPv4: all rules are in place") < 2 || strings.Count(process.Log(), "IPv6: all rules are in place") < 2 {
			return fmt.Errorf("the rules are not in place again")
		}
		return nil
	})
	p.nothing(w, "a reload")

	second := p.start(54)
	p.eventually("the second process waits", second.Says("NAT waits: kernelnat runs in another process"))
	p.nothing(w, "the start of a second process")
	process.Stop(syscall.SIGKILL)
	p.inPlace(second)
	p.nothing(w, "the second process's turn")
	n.noneLost(a)
	t.Logf("%d kills", *kills)
}
