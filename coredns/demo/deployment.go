package demo

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

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
// three have the addresses of the notes, so the chains get the notes' names.
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

// startPod does what a kubelet does: it starts the pod, an echo server that answers HTTP
// with its name and address, and then writes its manifest, with the address, to the
// folder that the server reads.
func (s *stage) startPod(spec podSpec) error {
	pod, err := s.node.AddPod(spec.Name, spec.IP)
	if err != nil {
		return err
	}
	s.pods = append(s.pods, pod)
	listener, err := pod.Listen("tcp", netip.AddrPortFrom(spec.IP, podPort))
	if err != nil {
		return fmt.Errorf("start pod %s: %w", spec.Name, err)
	}
	pod.Serve(listener, func(conn net.Conn) {
		// Each request is to be a connection of its own, as it is with HTTP 1.0: that
		// is what a ClusterIP balances.
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprintf(conn, "HTTP/1.0 200 OK\r\n\r\n%s\n", hello(spec))
		}
	})
	return s.writePod(spec)
}

func hello(p podSpec) string { return fmt.Sprintf("Hello from %s at %s", p.Name, p.IP) }

func (s *stage) writePod(spec podSpec) error {
	temporary, err := os.CreateTemp(s.dir, spec.Name)
	if err != nil {
		return err
	}
	defer temporary.Close()
	if err := templates.ExecuteTemplate(temporary, podTemplate, spec); err != nil {
		return fmt.Errorf("write manifest of pod %s: %w", spec.Name, err)
	}
	return os.Rename(temporary.Name(), s.podFile(spec.Name))
}

func (s *stage) podFile(name string) string {
	return filepath.Join(s.dir, manifests, "pod-"+name+".yaml")
}

// scale does what the Deployment's controller does: it starts echo pods until
// there are so many, or takes the manifests of the last ones away.
// Those pods answer on until stopRemoved, as terminating ones do.
func (s *stage) scale(replicas int) error {
	var errs []error
	for i, spec := range echoPods {
		_, err := os.Stat(s.podFile(spec.Name))
		exists := err == nil
		switch {
		case i < replicas && !exists:
			errs = append(errs, s.startPod(spec))
		case i >= replicas && exists:
			errs = append(errs, os.Remove(s.podFile(spec.Name)))
		}
	}
	return errors.Join(errs...)
}

// stopRemoved ends the pods whose manifests are gone.
func (s *stage) stopRemoved() error {
	var errs []error
	s.pods = slices.DeleteFunc(s.pods, func(pod *netlab.Host) bool {
		_, err := os.Stat(s.podFile(pod.Name))
		if err != nil {
			errs = append(errs, pod.Close())
		}
		return err != nil
	})
	return errors.Join(errs...)
}
