package demo

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

const (
	podTemplate = "pod.yaml.tmpl"
	podPort     = 5678
)

// podSpec is what a Pod manifest is made from.
type podSpec struct {
	Name     string
	App      string // its label "app"
	Governor string // the headless Service of its StatefulSet, or ""
	IP       netip.Addr
}

// The pods of the Deployment, in the order in which scaling adds them. The first
// three have the addresses of the page, so the chains get the page's names.
var echoPods = []podSpec{
	{Name: "echo-server-7d4b9c6f58-2xkqp", App: "echo-server", IP: netip.MustParseAddr("10.42.0.49")},
	{Name: "echo-server-7d4b9c6f58-8mzvt", App: "echo-server", IP: netip.MustParseAddr("10.42.1.63")},
	{Name: "echo-server-7d4b9c6f58-hn5wd", App: "echo-server", IP: netip.MustParseAddr("10.42.1.64")},
	{Name: "echo-server-7d4b9c6f58-kc7rs", App: "echo-server", IP: netip.MustParseAddr("10.42.0.54")},
	{Name: "echo-server-7d4b9c6f58-tq4bj", App: "echo-server", IP: netip.MustParseAddr("10.42.1.67")},
}

var dbPods = []podSpec{
	{Name: "db-0", App: "db", Governor: "db", IP: netip.MustParseAddr("10.42.0.71")},
	{Name: "db-1", App: "db", Governor: "db", IP: netip.MustParseAddr("10.42.1.72")},
}

// pod is a running echo server: it answers HTTP with its name and address.
type pod struct {
	podSpec
	host   *netlab.Host
	server *http.Server
	ended  chan struct{}
}

// startPod does what a kubelet does: it starts the pod and then writes its
// manifest, with the address, to the folder that the server reads.
func (s *stage) startPod(spec podSpec) error {
	host, err := s.node.AddPod(spec.Name, spec.IP)
	if err != nil {
		return err
	}
	listener, err := host.Listen("tcp", netip.AddrPortFrom(spec.IP, podPort))
	if err != nil {
		return errors.Join(fmt.Errorf("start pod %s: %w", spec.Name, err), host.Close())
	}
	p := &pod{podSpec: spec, host: host, ended: make(chan struct{})}
	p.server = &http.Server{Handler: http.HandlerFunc(p.hello)}
	// Each request is to be a connection of its own: that is what a ClusterIP
	// balances.
	p.server.SetKeepAlivesEnabled(false)
	go func() {
		defer close(p.ended)
		p.server.Serve(listener)
	}()
	s.pods = append(s.pods, p)
	return s.writePod(spec)
}

func (p *pod) hello(w http.ResponseWriter, _ *http.Request) {
	io.WriteString(w, hello(p.podSpec)+"\n")
}

func hello(p podSpec) string { return fmt.Sprintf("Hello from %s at %s", p.Name, p.IP) }

// stop ends the pod's server and namespace.
func (p *pod) stop() error {
	err := p.server.Close()
	<-p.ended
	return errors.Join(err, p.host.Close())
}

func (s *stage) writePod(spec podSpec) error {
	temporary, err := os.CreateTemp(s.dir, spec.Name)
	if err != nil {
		return err
	}
	defer temporary.Close()
	if err := templates.ExecuteTemplate(temporary, podTemplate, spec); err != nil {
		return fmt.Errorf("write manifest of pod %s: %w", spec.Name, err)
	}
	return os.Rename(temporary.Name(), s.podFile(spec))
}

func (s *stage) podFile(spec podSpec) string {
	return filepath.Join(s.dir, manifests, "pod-"+spec.Name+".yaml")
}

// scale does what the Deployment's controller does: it starts echo pods until
// there are so many, or takes the manifests of the last ones away.
// Those pods answer on until stopRemoved, as terminating ones do.
func (s *stage) scale(replicas int) error {
	var errs []error
	for i, spec := range echoPods {
		_, err := os.Stat(s.podFile(spec))
		exists := err == nil
		switch {
		case i < replicas && !exists:
			errs = append(errs, s.startPod(spec))
		case i >= replicas && exists:
			errs = append(errs, os.Remove(s.podFile(spec)))
		}
	}
	return errors.Join(errs...)
}

// stopRemoved ends the pods whose manifests are gone.
func (s *stage) stopRemoved() error {
	var errs []error
	running := s.pods[:0]
	for _, p := range s.pods {
		if _, err := os.Stat(s.podFile(p.podSpec)); err == nil {
			running = append(running, p)
			continue
		}
		errs = append(errs, p.stop())
	}
	s.pods = running
	return errors.Join(errs...)
}
