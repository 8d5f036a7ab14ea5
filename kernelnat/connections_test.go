package kernelnat

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// counting is a Backend that has counted.
type counting struct {
	nowhere
	counted []Connections
	err     error
}

func (c *counting) Connections() ([]Connections, error) { return c.counted, c.err }

// The Services that are named and those with the most connections are exported, and no others.
func TestConnectionMetrics(t *testing.T) {
	of := func(name, port string, count uint64, endpoint string) Connections {
		c := Connections{Service: cluster.ServiceName{Namespace: "testing", Name: name}, Port: port, Count: count}
		if endpoint != "" {
			c.Endpoint = netip.MustParseAddrPort(endpoint)
		}
		return c
	}
	backend := &counting{counted: []Connections{
		of("a", "http", 5, ""), of("b", "http", 9, ""), of("b", "https", 7, ""), of("c", "", 0, ""), of("d", "", 7, ""),
		of("b", "http", 4, "10.42.0.7:80"), of("a", "http", 5, "10.42.0.8:80"),
	}}
	counted := []string{"kernelnat_frontend_connections_total", "kernelnat_endpoint_connections_total"}
	backends := map[cluster.Family]Backend{cluster.IPv4: backend}
	const head = "# HELP kernelnat_frontend_connections_total New connections to a port of a Service on this node, at all of its addresses.\n# TYPE kernelnat_frontend_connections_total counter\n"
	const endpoints = "# HELP kernelnat_endpoint_connections_total New connections to an endpoint of a Service on this node.\n# TYPE kernelnat_endpoint_connections_total counter\n"
	line := func(name, port, count string) string {
		return `kernelnat_frontend_connections_total{ip_family="IPv4",namespace="testing",port="` + port + `",service="` + name + `"} ` + count + "\n"
	}
	for _, c := range []struct {
		name     string
		exported Exported
		want     string
	}{
		{"none", Exported{}, ""},
		{"top", Exported{Top: 2}, head + line("b", "http", "9") + line("b", "https", "7")},
		{"named", Exported{Named: map[cluster.ServiceName]bool{{Namespace: "testing", Name: "c"}: true, {Namespace: "other", Name: "a"}: true}}, head + line("c", "", "0")},
		{"endpoints", Exported{Top: 1, Endpoints: true}, endpoints +
			`kernelnat_endpoint_connections_total{endpoint="10.42.0.7:80",ip_family="IPv4",namespace="testing",port="http",service="b"} 4` + "\n" + head + line("b", "http", "9")},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := testutil.CollectAndCompare(NewConnectionMetrics(c.exported, backends, nowhere{}), strings.NewReader(c.want), counted...); err != nil {
				t.Error(err)
			}
		})
	}
	backend.err = errors.New("no")
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(NewConnectionMetrics(Exported{Top: 9}, backends, nowhere{}))
	if found, err := testutil.GatherAndCount(registry, counted...); err != nil || found > 0 {
		t.Errorf("of what cannot be read %d series are exported, and the error is %v", found, err)
	}
}
