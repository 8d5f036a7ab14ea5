package kernelnat

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/test/clustertest"
)

// advice runs an Advisor in a bubble, and notes when it told what.
type advice struct {
	store   *cluster.Store
	settles time.Duration
	began   time.Time
	told    []string
	at      []time.Duration
}

func advise(t *testing.T, test func(*advice)) {
	synctest.Test(t, func(t *testing.T) {
		a := &advice{store: cluster.NewStore(), began: time.Now()}
		advisor := NewAdvisor(cluster.Proxy{}, func(name cluster.ServiceName, f plan.Fault) {
			a.told = append(a.told, fmt.Sprintf("%s %s", name, f.Why))
			a.at = append(a.at, time.Since(a.began))
		})
		a.settles = advisor.settles
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			advisor.Run(ctx, a.store)
		}()
		test(a)
		cancel()
		<-done
	})
}

// after lets time pass, and returns what was told in it.
func (a *advice) after(d time.Duration) []string {
	time.Sleep(d)
	synctest.Wait()
	told := a.told
	a.told, a.at = nil, nil
	return told
}

// set has a Service with an endpoint that does not have its port, or does.
func (a *advice) set(name string, well bool) {
	s := clustertest.Service(name, "10.43.0.7")
	if !well {
		s.Ports[0].Name = "other"
	}
	a.store.Apply(cluster.Update{Services: clustertest.Changed(cluster.New(s, clustertest.Ready("10.42.0.1")))})
}

const settled = 2*faultSettles + time.Second

func TestAdvisor(t *testing.T) {
	want := []string{"shop/web PortWithoutEndpoints"}
	advise(t, func(a *advice) {
		a.set("shop/web", true)
		if told := a.after(settled); len(told) > 0 {
			t.Errorf("a Service that is well: %v", told)
		}
		a.set("shop/web", false)
		if told := a.after(faultSettles - time.Second); len(told) > 0 {
			t.Errorf("before it has settled: %v", told)
		}
		a.set("shop/web", true)
		if told := a.after(settled); len(told) > 0 {
			t.Errorf("what did not last: %v", told)
		}
		for _, well := range []bool{false, true, false} {
			time.Sleep(5 * time.Second)
			a.set("shop/web", well)
		}
		if told := a.after(a.settles - time.Second); len(told) > 0 {
			t.Errorf("the time before it was gone counts: %v", told)
		}
		for range 20 { // it changes, and the fault stays
			a.set("shop/web", false)
		}
		if told := a.after(settled); !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
		for range 20 {
			a.set("shop/web", true)
			time.Sleep(settled)
			a.set("shop/web", false)
			time.Sleep(settled)
		}
		if told := a.after(0); len(told) > 0 {
			t.Errorf("what comes and goes is told again: %v", told)
		}
		a.store.Apply(cluster.Update{Services: clustertest.Gone("shop/web")})
		synctest.Wait()
		a.set("shop/web", false)
		if told := a.after(settled); !slices.Equal(told, want) {
			t.Errorf("of another Service of that name it told %v, want %v", told, want)
		}
		a.set("shop/web", true)
		time.Sleep(tellAgain)
		a.set("shop/web", false)
		if told := a.after(settled); !slices.Equal(told, want) {
			t.Errorf("an hour later it told %v, want %v", told, want)
		}
	})
}

// Many faults at a time are told one by one.
func TestAdvisorTellsOneByOne(t *testing.T) {
	advise(t, func(a *advice) {
		const n = 100
		for i := range n {
			a.set(fmt.Sprintf("shop/web-%d", i), false)
		}
		time.Sleep(settled + n*faultsPer)
		synctest.Wait()
		if len(a.told) != n {
			t.Fatalf("told %d of %d", len(a.told), n)
		}
		for i := range n - 1 {
			if a.at[i+1]-a.at[i] < faultsPer {
				t.Errorf("told at %v and %v", a.at[i], a.at[i+1])
			}
		}
	})
}

// A Service whose ports are always others is not told of without end.
func TestAdvisorTellsLittle(t *testing.T) {
	advise(t, func(a *advice) {
		for i := range uint16(4 * maxFaultsTold) {
			s := clustertest.Service("shop/web", "10.43.0.7")
			s.Ports[0].Name, s.Ports[0].Port = "other", 1000+i
			a.store.Apply(cluster.Update{Services: clustertest.Changed(cluster.New(s, clustertest.Ready("10.42.0.1")))})
			time.Sleep(settled)
		}
		if told := a.after(0); len(told) != maxFaultsTold {
			t.Errorf("told %d times", len(told))
		}
	})
}

// A Service whose faults come and go all the time waits once, however long the others that wait
// before it take, and one that is made again and again too.
func TestAdvisorRemembersLittle(t *testing.T) {
	a := NewAdvisor(cluster.Proxy{}, func(cluster.ServiceName, plan.Fault) {})
	now := time.Now()
	name := clustertest.Name("shop/web")
	ill := clustertest.Service("shop/web", "10.43.0.7")
	well := cluster.New(ill, clustertest.Ready("10.42.0.1"))
	ill.Ports = []cluster.Port{{Name: "other", Protocol: cluster.TCP, Port: 80}}
	for i := range 10_000 {
		for _, s := range []*cluster.Service{cluster.New(ill, clustertest.Ready("10.42.0.1")), well, nil}[:2+i%2] {
			a.look(name, s, now.Add(time.Duration(i)*time.Millisecond))
		}
	}
	if len(a.due) != 1 || len(a.services) != 1 {
		t.Errorf("%d wait, of %d Services", len(a.due), len(a.services))
	}
}
