package kubetest

import (
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig writes a kubeconfig for processes on this machine and returns its
// path.
func (c *ControlPlane) Kubeconfig() string {
	c.t.Helper()
	return c.kubeconfig(c.address, c.admin)
}

// AccountKubeconfig is Kubeconfig for ServiceAccount.
func (c *ControlPlane) AccountKubeconfig() string {
	c.t.Helper()
	return c.kubeconfig(c.address, c.account)
}

// KubeconfigThrough is Kubeconfig by way of a line.
func (c *ControlPlane) KubeconfigThrough(l *Line) string {
	c.t.Helper()
	return c.kubeconfig(l.address, c.admin)
}

// KubeconfigOn writes a kubeconfig for processes in the host's network, from where
// this machine's loopback is out of reach: the host gets a listener on its own
// loopback, that passes every connection on to the API server until the host is
// closed.
func (c *ControlPlane) KubeconfigOn(host *netlab.Host) string {
	c.t.Helper()
	path, _ := c.KubeconfigIn(host, netip.MustParseAddr("127.0.0.1"))
	return path
}

// KubeconfigIn is KubeconfigOn by way of an address of the host, for processes that
// reach it from elsewhere. It returns also where that is.
func (c *ControlPlane) KubeconfigIn(host *netlab.Host, at netip.Addr) (path string, server netip.AddrPort) {
	c.t.Helper()
	l, err := host.Listen("tcp", netip.AddrPortFrom(at, 0))
	if err != nil {
		c.t.Fatal(err)
	}
	host.Serve(l, c.relay)
	server = netip.MustParseAddrPort(l.Addr().String())
	return c.kubeconfig(server.String(), c.admin), server
}

func (c *ControlPlane) kubeconfig(address, token string) string {
	c.t.Helper()
	const name = "test"
	host, _, err := net.SplitHostPort(c.address)
	if err != nil {
		c.t.Fatal(err)
	}
	config := clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: {
			Server: "https://" + address, CertificateAuthorityData: c.ca, TLSServerName: host, // whatever it is reached by
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"user": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: "user"}},
		CurrentContext: name,
	}
	path := filepath.Join(c.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(config, path); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// relay copies both ways until one side closes.
func (c *ControlPlane) relay(client net.Conn) {
	server, err := net.DialTimeout("tcp", c.address, 5*time.Second)
	if err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		io.Copy(server, client)
		server.Close()
	}()
	io.Copy(client, server)
	client.Close()
	<-done
}
