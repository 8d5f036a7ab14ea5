package kubetest

import (
	"net"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// Line is a way to the API server that can be cut. It is for one goroutine.
type Line struct {
	c       *ControlPlane
	address string
	servers *netlab.Servers
}

// NewLine returns a line that works. It ends with the test.
func (c *ControlPlane) NewLine() *Line {
	c.t.Helper()
	l := &Line{c: c, address: freeAddress(c.t)}
	l.Mend()
	c.t.Cleanup(l.Cut)
	return l
}

// URL is where clients find the API server by way of the line.
func (l *Line) URL() string { return "https://" + l.address }

// Mend has the line accept connections.
func (l *Line) Mend() {
	l.c.t.Helper()
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		l.c.t.Fatal(err)
	}
	l.servers = netlab.NewServers()
	l.servers.Serve(listener, l.c.relay)
}

// Cut breaks all connections and refuses others, until Mend.
func (l *Line) Cut() { l.servers.Close() }
