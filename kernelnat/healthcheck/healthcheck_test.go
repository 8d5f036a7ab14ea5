package healthcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/test/clustertest"
)

func TestProxy(t *testing.T) {
	v4, v6 := Status{LastUpdated: time.Unix(100, 0), Healthy: true}, Status{LastUpdated: time.Unix(200, 0), Healthy: true}
	leaving := false
	p := &Proxy{
		Status:   func() map[cluster.Family]Status { return map[cluster.Family]Status{cluster.IPv4: v4, cluster.IPv6: v6} },
		Eligible: func() bool { return !leaving },
	}
	ask := func(handler http.HandlerFunc) (int, map[string]any) {
		t.Helper()
		w := httptest.NewRecorder()
		handler(w, httptest.NewRequest(http.MethodGet, "/", nil))
		var body map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		return w.Code, body
	}
	for _, c := range []struct {
		name            string
		late, leaving   bool
		healthz, livez  int
		healthy, wanted bool
	}{
		{"all is well", false, false, 200, 200, true, true},
		{"the node is leaving", false, true, 503, 200, true, false},
		{"one family is late", true, false, 503, 503, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v6.Healthy, leaving = !c.late, c.leaving
			code, body := ask(p.healthz)
			if code != c.healthz || body["healthy"] != c.healthy || body["nodeEligible"] != c.wanted {
				t.Errorf("/healthz: %d %v", code, body)
			}
			if status := body["status"].(map[string]any)["IPv6"].(map[string]any); status["healthy"] != !c.late {
				t.Errorf("status of IPv6: %v", status)
			}
			code, body = ask(p.livez)
			if _, told := body["nodeEligible"]; code != c.livez || told || body["healthy"] != c.healthy {
				t.Errorf("/livez: %d %v", code, body)
			}
			if updated, err := time.Parse(time.RFC3339Nano, body["lastUpdated"].(string)); err != nil || (time.Since(updated) < time.Minute) != c.healthy {
				t.Errorf("lastUpdated %v, %v", updated, err)
			}
		})
	}
}

func TestServeNamesTheMend(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	err = (&Proxy{}).Serve(t.Context(), taken.Addr().String())
	if err == nil || !strings.Contains(err.Error(), "address already in use: free the port, or choose another with the option healthz") {
		t.Error(err)
	}
}

func withHealthPort(port uint16, nodes ...string) *cluster.Service {
	var endpoints []cluster.Endpoint
	for i, node := range nodes {
		for _, addr := range []netip.Addr{netip.AddrFrom4([4]byte{10, 42, 0, byte(i)}), netip.MustParseAddr(fmt.Sprintf("fd00::%x", i+1))} {
			endpoints = append(endpoints, cluster.Endpoint{Addr: addr, Topology: &cluster.Topology{NodeName: node}, Ready: true})
		}
	}
	endpoints = append(endpoints, cluster.Endpoint{Addr: netip.MustParseAddr("10.42.9.9"), Topology: &cluster.Topology{NodeName: "here"}})
	s := clustertest.Service("testing/echo", "10.43.0.1", "fd00:43::1")
	s.External = cluster.External{Local: true, HealthCheckNodePort: port}
	return cluster.New(s, endpoints)
}

// The port opens with the Service, tells how many ready endpoints are here, moves
// when the Service says so, and closes with it.
func TestServices(t *testing.T) {
	ports := freePorts(t, 2)
	var ill atomic.Bool
	store := cluster.NewStore()
	s := NewServices(Options{Node: "here", Addresses: everywhere, Healthy: func() bool { return !ill.Load() }, Log: t.Errorf})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx, store) }()
	apply := func(service *cluster.Service) {
		store.Apply(cluster.Update{Services: clustertest.Changed(service)})
		grant(s, service)
	}

	want := func(port uint16, code, local int) {
		t.Helper()
		clustertest.Eventually(t, 10*time.Second, fmt.Sprintf("port %d", port), func() error {
			got := get("127.0.0.1", port)
			if got == fmt.Sprintf(`%d %d {"service":{"namespace":"testing","name":"echo"},"localEndpoints":%d,"serviceProxyHealthy":%t}`, code, local, local, !ill.Load()) || code == 0 && strings.Contains(got, "refused") {
				return nil
			}
			return errors.New(got)
		})
	}
	apply(withHealthPort(ports[0], "here", "there", "here"))
	want(ports[0], 200, 2)
	ill.Store(true)
	want(ports[0], 503, 2)
	ill.Store(false)
	apply(withHealthPort(ports[0], "there"))
	want(ports[0], 503, 0)
	apply(withHealthPort(ports[1], "here"))
	want(ports[1], 200, 1)
	want(ports[0], 0, 0)
	others := withHealthPort(ports[1], "here")
	others.Proxy = cluster.NamedProxy("")
	apply(others)
	want(ports[1], 0, 0)

	apply(withHealthPort(ports[1], "here"))
	want(ports[1], 200, 1)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	want(ports[1], 0, 0)
}

// grant gives a Service the port that it asks for, in both families.
func grant(s *Services, service *cluster.Service) {
	for _, family := range cluster.Families {
		s.Grant(family, service.Name, service.External.HealthCheckNodePort)
	}
}

// Of two Services that ask for one port the one answers that has been granted it, and the other
// as soon as that gives it up. Nothing is told of a port that is in use.
func TestServicesOfOnePort(t *testing.T) {
	port := freePorts(t, 1)[0]
	store := cluster.NewStore()
	s := NewServices(Options{Node: "here", Addresses: everywhere, Healthy: func() bool { return true }, Log: t.Errorf})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx, store) }()
	a, b := withHealthPort(port, "here"), *withHealthPort(port, "here", "here")
	b.Name.Name = "other"
	store.Apply(cluster.Update{Services: clustertest.Changed(a, cluster.New(b, b.Endpoints))})
	want := func(start string) {
		t.Helper()
		clustertest.Eventually(t, 10*time.Second, start, func() error {
			if got := get("127.0.0.1", port); !strings.Contains(got, start) {
				return errors.New(got)
			}
			return nil
		})
	}
	want("refused")
	s.Grant(cluster.IPv4, b.Name, port)
	want(`"name":"other"`)
	s.Grant(cluster.IPv4, b.Name, 0)
	s.Grant(cluster.IPv4, a.Name, port)
	want(`"name":"echo"`)
	s.Grant(cluster.IPv4, a.Name, 0)
	want("refused")
	cancel()
	<-done
}

func everywhere(family cluster.Family, _ *cluster.Node) ([]netip.Addr, error) {
	if family == cluster.IPv6 {
		return []netip.Addr{netip.IPv6Unspecified()}, nil
	}
	return []netip.Addr{netip.IPv4Unspecified()}, nil
}

// Each family counts its own endpoints and answers at its own addresses, as long as the
// Service has an address of it; and the addresses may change.
func TestServicesByFamily(t *testing.T) {
	port := freePorts(t, 1)[0]
	store := cluster.NewStore()
	s := NewServices(Options{
		Node: "here", Healthy: func() bool { return true }, Log: t.Errorf,
		Addresses: func(family cluster.Family, node *cluster.Node) ([]netip.Addr, error) {
			if node == nil {
				return everywhere(family, nil)
			}
			return slices.DeleteFunc(slices.Clone(node.Addresses), func(a netip.Addr) bool { return cluster.FamilyOf(a) != family }), nil
		},
	})
	done := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { done <- s.Run(ctx, store) }()
	apply := func(edit func(*cluster.Service)) {
		service := withHealthPort(port, "here")
		edit(service)
		store.Apply(cluster.Update{Services: clustertest.Changed(service)})
		grant(s, service)
	}
	want := func(host, code string) {
		t.Helper()
		clustertest.Eventually(t, 10*time.Second, host, func() error {
			if got := get(host, port); !strings.HasPrefix(got, code+" ") && (code != "refused" || !strings.Contains(got, code)) {
				return fmt.Errorf("%s, want %s", got, code)
			}
			return nil
		})
	}
	elsewhere := func(family cluster.Family) func(*cluster.Service) {
		return func(s *cluster.Service) {
			for i := range s.Endpoints {
				if e := &s.Endpoints[i]; cluster.FamilyOf(e.Addr) == family {
					e.Topology = &cluster.Topology{NodeName: "there"}
				}
			}
		}
	}
	apply(func(*cluster.Service) {})
	want("127.0.0.1", "200")
	want("::1", "200")
	apply(elsewhere(cluster.IPv4))
	want("127.0.0.1", "503")
	want("::1", "200")
	apply(elsewhere(cluster.IPv6))
	want("127.0.0.1", "200")
	want("::1", "503")
	apply(func(s *cluster.Service) { s.ClusterIPs = s.ClusterIPs[:1] })
	want("127.0.0.1", "200")
	want("::1", "refused")
	node := &cluster.Node{Name: "here", Addresses: clustertest.Addrs("127.0.0.2", "::1")}
	store.Apply(cluster.Update{Nodes: []cluster.NodeUpdate{{Name: "here", Node: node}}})
	apply(func(*cluster.Service) {})
	want("127.0.0.1", "refused")
	want("127.0.0.2", "200")
	want("::1", "200")
	cancel()
	<-done
}

func get(host string, port uint16) string {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get("http://" + net.JoinHostPort(host, fmt.Sprint(port)) + "/")
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	var body strings.Builder
	var raw json.RawMessage
	if err := json.NewDecoder(r.Body).Decode(&raw); err != nil {
		return err.Error()
	}
	fmt.Fprintf(&body, "%d %s %s", r.StatusCode, r.Header.Get("X-Load-Balancing-Endpoint-Weight"), raw)
	return body.String()
}

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(t *testing.T, n int) []uint16 {
	t.Helper()
	var ports []uint16
	for range n {
		l, err := net.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ports = append(ports, uint16(l.Addr().(*net.TCPAddr).Port))
	}
	return ports
}
