package kernelnat_test

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/commits"
	"github.com/clusterip/clusterip/test/performance"
	"golang.org/x/sys/unix"
)

// What TestScale measures; `make bench-nat-alone` sets these.
var (
	scaleServices = flag.String("scale.services", "", "numbers of Services to measure a backend with, separated by commas")
	scaleBackend  = flag.String("scale.backend", "nftables", "backends to measure, separated by commas")
	scaleReport   = flag.String("scale.report", "", "folder to write the results to")
)

const (
	scaleEndpoints = 10
	scalePatience  = time.Minute

	scaleChanges = 300                   // are made, one after the other,
	scaleTime    = time.Minute           // but no longer than this,
	scaleRest    = 20 * time.Millisecond // with so long a pause before each

	scaleRate     = 1000 // changes a second
	scaleRateTime = 20 * time.Second
	scaleChanging = 1000 // Services, or as many as there are, change then by turns
)

// A backend on its own, at sizes that are too much for an API server on the same machine:
// from the Store to the kernel. What the memory and the processor time are of is the whole
// process, which makes the changes too.
func TestScale(t *testing.T) {
	if *scaleServices == "" {
		t.Skip("a measurement, not a test: make bench-nat-alone")
	}
	netlab.Require(t, "iptables", "ip6tables")
	t.Setenv("XTABLES_LOCKFILE", filepath.Join(t.TempDir(), "lock"))
	var results performance.NAT
	for text := range strings.SplitSeq(*scaleServices, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		for backend := range strings.SplitSeq(*scaleBackend, ",") {
			t.Run(fmt.Sprintf("%s/%d", backend, n), func(t *testing.T) { results = append(results, measureScale(t, backend, n)) })
			if *scaleReport != "" {
				if err := results.Save(*scaleReport, "alone"); err != nil {
					t.Error(err)
				}
			}
		}
		t.Logf("\n%s", results.Tables())
	}
}

func measureScale(t *testing.T, backend string, services int) performance.Side {
	s := &scaled{t: t, store: cluster.NewStore(), services: services}
	namespace, err := netlab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer namespace.Close()
	first := cluster.Update{Synced: true}
	for i := range services {
		first.Services = append(first.Services, s.update(i, 0))
	}
	side := performance.Side{Name: "kernelnat " + backend, Services: services, Endpoints: scaleEndpoints}
	longest := commits.Wait(t, namespace)
	start := time.Now()
	s.store.Apply(first)
	side.FullSync = s.run(namespace, backend).Sub(start)
	side.LongestWait, side.RSSStart = longest(), ownRSS(t)
	s.held = commits.Follow(t, namespace)
	s.changes(&side)
	s.rate(&side)
	side.RSSChanged = ownRSS(t)
	return side
}

// scaled is a Store of many Services.
type scaled struct {
	t        *testing.T
	store    *cluster.Store
	services int
	held     *commits.Held
	mark     int // the last that was used
}

// update is of Service i. It has a mark in place of an endpoint, if that is not 0.
func (s *scaled) update(i, mark int) cluster.ServiceUpdate {
	name := cluster.ServiceName{Namespace: "testing", Name: fmt.Sprint("service-", i)}
	service := cluster.Service{Name: name, Kind: cluster.KindClusterIP, Ports: []cluster.Port{{Name: "http", Protocol: cluster.TCP, Port: 80}},
		ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 96 | byte(i>>16), byte(i >> 8), byte(i)})}}
	slice := &cluster.EndpointSlice{Ports: []cluster.EndpointPort{{Name: "http", Protocol: cluster.TCP, Port: 8080}}}
	var list []cluster.Endpoint
	for e := range scaleEndpoints {
		n := i*scaleEndpoints + e
		addr := netip.AddrFrom4([4]byte{10, 128 | byte(n>>16), byte(n >> 8), byte(n)})
		if mark != 0 && mark%scaleEndpoints == e {
			addr = commits.Mark(mark)
		}
		list = append(list, cluster.Endpoint{Addr: addr, Slice: slice, Ready: true, Serving: true})
	}
	return cluster.ServiceUpdate{Name: name, Service: cluster.New(service, list)}
}

// run has a Controller follow the Store until the test ends, and returns when it has
// written everything.
func (s *scaled) run(namespace *netlab.Namespace, name string) (written time.Time) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	started, ended := make(chan *kernelnat.Controller, 1), make(chan error, 1)
	go func() {
		ended <- namespace.Do(func() error {
			backend, _, err := backends.Choose(name)
			if err != nil {
				return err
			}
			families, err := backend.New(netfilter.Settings{MasqueradeBit: netfilter.DefaultMasqueradeBit})
			if err != nil {
				return err
			}
			defer families[cluster.IPv4].Close()
			defer families[cluster.IPv6].Close()
			options := kernelnat.Options{Family: cluster.IPv4, NodeName: "node-1", Plan: plan.Options{Lacks: backend.Lacks, Bounds: backend.Bounds}}
			c := kernelnat.New(options, families[cluster.IPv4], errorsOf{s.t})
			started <- c
			return c.Run(ctx, s.store)
		})
	}()
	s.t.Cleanup(func() {
		cancel()
		<-ended
	})
	var controller *kernelnat.Controller
	select {
	case controller = <-started:
	case err := <-ended:
		ended <- err
		s.t.Fatal(err)
	}
	for controller.Status().Updated.IsZero() {
		time.Sleep(time.Millisecond)
	}
	return controller.Status().Updated
}

// errorsOf logs errors alone.
type errorsOf struct{ t *testing.T }

func (errorsOf) Infof(string, ...any)                { /* it says what is measured */ }
func (e errorsOf) Errorf(format string, args ...any) { e.t.Logf(format, args...) }

// changes replaces endpoints of one Service, one after the other.
func (s *scaled) changes(side *performance.Side) {
	s.t.Helper()
	var took []time.Duration
	cpu, start := ownCPU(s.t), time.Now()
	for len(took) < scaleChanges && time.Since(start) < scaleTime {
		time.Sleep(scaleRest)
		s.mark++
		update := cluster.Update{Services: []cluster.ServiceUpdate{s.update(s.services/2, s.mark)}}
		from := time.Now()
		s.store.Apply(update)
		at, ok := s.held.Await(s.mark, scalePatience)
		if !ok {
			s.t.Fatalf("the kernel does not hold a change within %v", scalePatience)
		}
		took = append(took, at.Sub(from))
	}
	side.ChangeCPU = (ownCPU(s.t) - cpu) / time.Duration(len(took))
	side.Change = performance.QuantilesOf(took)
}

// rate replaces endpoints of many Services.
func (s *scaled) rate(side *performance.Side) {
	s.t.Helper()
	made := make([]time.Time, scaleRate*int(scaleRateTime.Seconds()))
	changing := min(scaleChanging, s.services)
	first := s.mark + 1
	s.mark += len(made)
	cpu, start := ownCPU(s.t), time.Now()
	for i := range made {
		time.Sleep(time.Until(start.Add(time.Duration(i) * time.Second / scaleRate)))
		update := cluster.Update{Services: []cluster.ServiceUpdate{s.update(i%changing*(s.services/changing), first+i)}}
		made[i] = time.Now()
		s.store.Apply(update)
	}
	took := time.Since(start)
	side.Rate = &performance.Rate{PerSecond: float64(len(made)) / took.Seconds(), CPU: (ownCPU(s.t) - cpu).Seconds() / took.Seconds()}
	behind, err := s.held.Behind(made, first, changing, scalePatience)
	if err != nil {
		s.t.Fatal(err)
	}
	side.Rate.Behind = performance.QuantilesOf(behind)
}

// ownCPU is the processor time of this process and its children that have ended.
func ownCPU(t *testing.T) (sum time.Duration) {
	t.Helper()
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var usage unix.Rusage
		if err := unix.Getrusage(who, &usage); err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return sum
}

// ownRSS is how much memory this process has resident, in MiB.
func ownRSS(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize() >> 20
}
