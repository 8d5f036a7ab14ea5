package kernelnat

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/test/clustertest"
)

// What is told of healthCheckNodePorts is what the Table grants, first what is given up; and it
// is told although nothing has been written yet.
func TestHealthChecksAreGranted(t *testing.T) {
	made := func(name, ip string, created int64, port uint16) *cluster.Service {
		s := clustertest.Service("testing/"+name, ip)
		s.Created = time.Unix(created, 0)
		s.External = cluster.External{Local: true, HealthCheckNodePort: port}
		return cluster.New(s, nil)
	}
	var told []string
	c := New(Options{Family: cluster.IPv4, HealthChecks: func(family cluster.Family, service cluster.ServiceName, port uint16) {
		told = append(told, fmt.Sprintf("%s %s %d", family, service, port))
	}}, nowhere{}, testLog{t})
	for _, step := range []struct {
		name   string
		change []cluster.ServiceUpdate
		want   []string
	}{
		{"one comes", clustertest.Changed(made("b", "10.43.0.2", 200, 30971)), []string{"IPv4 testing/b 30971"}},
		{"a younger one", clustertest.Changed(made("c", "10.43.0.3", 300, 30971)), nil},
		{"an older one", clustertest.Changed(made("a", "10.43.0.1", 100, 30971)), []string{"IPv4 testing/b 0", "IPv4 testing/a 30971"}},
		{"another port", clustertest.Changed(made("a", "10.43.0.1", 100, 30972)), []string{"IPv4 testing/a 30972", "IPv4 testing/b 30971"}},
		{"one goes", clustertest.Gone("testing/b"), []string{"IPv4 testing/b 0", "IPv4 testing/c 30971"}},
	} {
		told = nil
		c.enqueue(cluster.Update{Services: step.change})
		c.takeChanges()
		if !slices.Equal(told, step.want) {
			t.Errorf("%s: told %q, want %q", step.name, told, step.want)
		}
	}
}
