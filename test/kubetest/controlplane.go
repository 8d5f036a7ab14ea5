package kubetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
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

// ControlPlane is an API server with its etcd. Whoever has its token may do
// everything.
type ControlPlane struct {
	Client *kubernetes.Clientset

	t       testing.TB
	dir     string
	address string // host:port of the API server
	token   string
	ca      []byte
}

// Start starts etcd and an API server and waits until it is ready. The test's end
// stops them and removes their data.
func Start(t testing.TB) *ControlPlane {
	t.Helper()
	Require(t)
	c := &ControlPlane{t: t, dir: t.TempDir(), address: freeAddress(t), token: rand.Text()}
	server := c.startAPIServer(c.startEtcd())
	server.await("readiness", patience, c.connect)
	// It is there for good as soon as the allocator of ClusterIPs works.
	server.await("Service default/kubernetes", patience, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, err := c.Client.CoreV1().Services("default").Get(ctx, "kubernetes", metav1.GetOptions{})
		return err
	})
	return c
}

// freeAddress returns an address of the loopback with a port that nobody has now.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (c *ControlPlane) command(name string, args ...string) *exec.Cmd {
	c.t.Helper()
	path, err := program(name)
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = c.dir
	return cmd
}

// startEtcd returns the URL for clients.
func (c *ControlPlane) startEtcd() string {
	c.t.Helper()
	client, peer := "http://"+freeAddress(c.t), "http://"+freeAddress(c.t)
	StartOn(c.t, nil, c.command("etcd",
		"--data-dir="+filepath.Join(c.dir, "etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
		"--initial-cluster=default="+peer,
	))
	return client
}

func (c *ControlPlane) startAPIServer(etcd string) *Process {
	c.t.Helper()
	host, port, err := net.SplitHostPort(c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	key := c.write("service-accounts.pem", signingKey(c.t))
	tokens := c.write("tokens.csv", []byte(c.token+",admin,admin,system:masters\n"))
	return StartOn(c.t, nil, c.command("kube-apiserver",
		"--etcd-servers="+etcd,
		"--cert-dir="+c.dir,
		"--bind-address="+host, "--advertise-address="+host, "--secure-port="+port,
		"--service-cluster-ip-range="+ServiceCIDRs,
		"--token-auth-file="+tokens, "--authorization-mode=AlwaysAllow",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		// It waits for a controller that makes service accounts.
		"--disable-admission-plugins=ServiceAccount",
		// A loopback address is no endpoint.
		"--endpoint-reconciler-type=none",
		// It fails several times a second with Debian's etcd 3.4, which has no
		// progress requests that can be relied on.
		"--feature-gates=SizeBasedListCostEstimate=false",
	))
}

func (c *ControlPlane) write(name string, content []byte) (path string) {
	c.t.Helper()
	path = filepath.Join(c.dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

func signingKey(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}

// connect makes the client, if the API server is ready.
func (c *ControlPlane) connect() error {
	ca, err := os.ReadFile(filepath.Join(c.dir, "apiserver.crt"))
	if err != nil {
		return err
	}
	c.ca = ca
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

// Config returns the configuration of a client in this process. The caller may
// change it.
func (c *ControlPlane) Config() *rest.Config {
	return &rest.Config{
		Host:            "https://" + c.address,
		BearerToken:     c.token,
		TLSClientConfig: rest.TLSClientConfig{CAData: c.ca},
		// Tests create hundreds of objects, and are alone with the server.
		QPS:            -1,
		WarningHandler: rest.NoWarnings{},
	}
}
