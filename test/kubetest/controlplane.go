package kubetest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The ranges of ClusterIPs, and of pods as kube-proxy is told.
const (
	ServiceCIDRs = "10.43.0.0/16,fd00:10:43::/108"
	ClusterCIDRs = "10.42.0.0/16,fd00:10:42::/64"
)

// ServiceAccount is a user that may do what RBAC objects say, which is nothing
// until a test creates some.
const ServiceAccount = "system:serviceaccount:kube-system:clusterip"

// ControlPlane is an API server with its etcd. Its Client may do everything.
type ControlPlane struct {
	Client *kubernetes.Clientset

	t       testing.TB
	dir     string
	address string // host:port of the API server
	admin   string // a token
	account string // the token of ServiceAccount
	ca      []byte

	kind         Etcd
	etcd, server *Process
	etcdURL      string
}

// Start starts Debian's etcd and an API server and waits until it is ready. The test's
// end stops them and removes their data. In a machine of test/kernels, which has one outside, it
// waits for that.
func Start(t testing.TB) *ControlPlane {
	t.Helper()
	if path := outside(); path != "" {
		return reach(t, path)
	}
	return StartWith(t, Listing)
}

// StartWith is Start with an etcd of choice.
func StartWith(t testing.TB, etcd Etcd) *ControlPlane {
	t.Helper()
	c := Prepare(t, etcd)
	c.StartServers()
	return c
}

// Prepare returns a control plane that does not run yet, at the address that it will
// have.
func Prepare(t testing.TB, etcd Etcd) *ControlPlane {
	t.Helper()
	Require(t)
	c := &ControlPlane{t: t, dir: t.TempDir(), kind: etcd, address: freeAddress(t), admin: rand.Text(), account: rand.Text()}
	c.ca = c.writeCertificate()
	return c
}

// StartServers starts etcd and an API server, where they do not run, and waits until
// the API server is ready.
func (c *ControlPlane) StartServers() {
	c.t.Helper()
	if c.etcd == nil {
		c.etcd, c.etcdURL = c.startEtcd()
	}
	c.server = c.startAPIServer()
	// Asked to end it would first wait for those who watch.
	c.t.Cleanup(c.KillAPIServer)
	c.server.await("readiness", patience, c.connect)
	// It is there for good as soon as the allocator of ClusterIPs works.
	c.server.await("Service default/kubernetes", patience, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := c.Client.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		return err
	})
}

// KillAPIServer ends the API server as a crash would. StartServers brings another up
// at the same address.
func (c *ControlPlane) KillAPIServer() {
	c.t.Helper()
	c.server.Stop(syscall.SIGKILL)
}

// HangAPIServer stops the API server without ending it: connections stay, new ones
// come about, and nothing is said on them. ResumeAPIServer lets it go on.
func (c *ControlPlane) HangAPIServer() { c.server.Signal(syscall.SIGSTOP) }

// ResumeAPIServer undoes HangAPIServer.
func (c *ControlPlane) ResumeAPIServer() { c.server.Signal(syscall.SIGCONT) }

// Wipe ends both servers and forgets all objects, as if the cluster were made anew.
func (c *ControlPlane) Wipe() {
	c.t.Helper()
	c.KillAPIServer()
	c.etcd.Stop(syscall.SIGKILL)
	c.etcd = nil
	if err := os.RemoveAll(filepath.Join(c.dir, "etcd")); err != nil {
		c.t.Fatal(err)
	}
}

func (c *ControlPlane) command(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	path, err := Peer(name)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = c.dir
	return cmd
}

func (c *ControlPlane) startAPIServer() *Process {
	c.t.Helper()
	host, port, err := net.SplitHostPort(c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	key := filepath.Join(c.dir, keyFile) // any key would do
	tokens := c.write("tokens.csv", fmt.Appendf(nil, "%s,admin,admin,system:masters\n%s,%s,clusterip\n", c.admin, c.account, ServiceAccount))
	flags := []string{
		"--etcd-servers=" + c.etcdURL,
		"--tls-cert-file=" + filepath.Join(c.dir, certFile), "--tls-private-key-file=" + filepath.Join(c.dir, keyFile),
		"--bind-address=" + host, "--advertise-address=" + host, "--secure-port=" + port,
		"--service-cluster-ip-range=" + ServiceCIDRs,
		"--client-ca-file=" + filepath.Join(c.dir, certFile),
		"--token-auth-file=" + tokens, "--authorization-mode=RBAC",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + key, "--service-account-signing-key-file=" + key,
		// kube-proxy's DaemonSet, and ours, are privileged.
		"--allow-privileged",
		// It waits for a controller that makes service accounts.
		"--disable-admission-plugins=ServiceAccount",
		// A loopback address is no endpoint.
		"--endpoint-reconciler-type=none",
	}
	return StartOn(c.t, nil, c.command("kube-apiserver", slices.Concat(flags, c.kind.gates(), c.auditFlags())...))
}

func (c *ControlPlane) write(name string, content []byte) (path string) {
	c.t.Helper()
	path = filepath.Join(c.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// connect makes the client, if the API server is ready.
func (c *ControlPlane) connect() error {
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	body, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s", err, body)
	}
	c.Client = client
	return nil
}

// Certificate returns the files of a client's certificate, its key and the CA of both
// client and API server.
func (c *ControlPlane) Certificate() (cert, key, ca string) {
	cert, key = filepath.Join(c.dir, certFile), filepath.Join(c.dir, keyFile)
	return cert, key, cert
}

// Config returns the configuration of a client in this process. The caller may
// change it.
func (c *ControlPlane) Config() *rest.Config {
	return &rest.Config{
		Host:            "https://" + c.address,
		BearerToken:     c.admin,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca},
		// Tests create hundreds of objects, and are alone with the server.
		QPS:            -1,
		WarningHandler: rest.NoWarnings{},
	}
}
