// Package conformance asks a DNS server, with the real dig, what the Kubernetes
// DNS specification and the RFCs demand. The tests know only its address: they
// build and start the server of this repository on the manifests in testdata,
// unless DNS_TEST_SUBJECT=host:port names another one that has the same objects.
package conformance

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/dnsload"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/miekg/dns"
)

// host and port are those of the server under test, and program is its binary, ""
// if it was not built here.
var host, port, program string

func TestMain(m *testing.M) {
	dnsload.Main() // which tests under load start
	kubetest.Main(func() int { return run(m) })
}

func run(m *testing.M) int {
	if _, err := exec.LookPath("dig"); err != nil {
		if os.Getenv("E2E_REQUIRED") == "1" {
			fmt.Println("dig is missing: apt-get install bind9-dnsutils")
			return 1
		}
		fmt.Println("skipping the conformance tests: dig is missing (apt-get install bind9-dnsutils)")
		return 0
	}
	if subject := os.Getenv("DNS_TEST_SUBJECT"); subject != "" {
		var err error
		if host, port, err = net.SplitHostPort(subject); err != nil {
			fmt.Println("DNS_TEST_SUBJECT:", err)
			return 1
		}
		return m.Run()
	}
	stop, err := start()
	defer stop()
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return m.Run()
}

// start builds and runs the server; stop ends it, whatever start got done.
func start() (stop func(), err error) {
	stop = func() {}
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		return stop, err
	}
	stop = func() { os.RemoveAll(dir) }
	if program, err = kubetest.Build(false); err != nil {
		return stop, err
	}
	host = "127.0.0.1"
	if port, err = freePort(); err != nil {
		return stop, err
	}
	logs, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return stop, err
	}
	server := exec.Command(program, "-conf", "Corefile", "-dns.port", port)
	server.Dir = "testdata"
	server.Env = append(os.Environ(), "CONFORMANCE_STATE="+filepath.Join(dir, "state.json"))
	server.Stdout, server.Stderr = logs, logs
	if err := server.Start(); err != nil {
		return stop, fmt.Errorf("start the server: %w", err)
	}
	stop = func() {
		server.Process.Kill()
		server.Wait()
		os.RemoveAll(dir)
	}
	if err := waitForServer(); err != nil {
		out, _ := os.ReadFile(logs.Name())
		return stop, fmt.Errorf("%w\n%s", err, out)
	}
	return stop, nil
}

// freePort returns a port that is free for UDP and TCP.
func freePort() (string, error) {
	for {
		udp, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		_, port, _ := net.SplitHostPort(udp.LocalAddr().String())
		tcp, err := net.Listen("tcp", "127.0.0.1:"+port)
		udp.Close()
		if err == nil {
			tcp.Close()
			return port, nil
		}
	}
}

func waitForServer() error {
	client := dns.Client{Timeout: 100 * time.Millisecond}
	query := new(dns.Msg).SetQuestion("cluster.local.", dns.TypeSOA)
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		var reply *dns.Msg
		if reply, _, err = client.Exchange(query, net.JoinHostPort(host, port)); err == nil && reply.Rcode == dns.RcodeSuccess {
			return nil
		}
		<-time.After(10 * time.Millisecond)
	}
	return fmt.Errorf("the server does not answer: %w", err)
}
