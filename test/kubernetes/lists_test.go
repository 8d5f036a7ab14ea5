package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// afresh is what the program asks to know all that there is and what comes then. A
// stream is refused by an API server that cannot, and not asked for twice otherwise.
var afresh = map[kubetest.Etcd]string{kubetest.Listing: "stream list watch", kubetest.Streaming: "stream"}

// Lists are streamed where the API server can, and nothing is listed anew as long as
// a watch can go on.
func TestLists(t *testing.T) { eachEtcd(t, testLists) }

func testLists(t *testing.T, a *apiServer, etcd kubetest.Etcd) {
	line := a.NewLine()
	p := a.shop(line)
	a.wasAsked("at the start", afresh[etcd])
	asking := p.keepAsking("stays.shop.svc.cluster.local", "10.43.0.5")

	t.Log("changes come by the same watch")
	a.moveShop(1)
	p.showsMove(1)
	a.wasAsked("after changes", afresh[etcd])

	t.Log("cut off, while etcd forgets what the API server still remembers")
	line.Cut()
	p.logs("connect: connection refused")
	a.moveShop(2)
	a.Compact()
	line.Mend()
	p.showsMove(2)
	a.wasAsked("after the cut", afresh[etcd]+" watch")
	p.stop(asking)
}

// The history from which a watch would go on may be forgotten, in etcd and in the API
// server. What went meanwhile is noticed by its absence.
func TestForgottenHistory(t *testing.T) { eachEtcd(t, testForgottenHistory) }

func testForgottenHistory(t *testing.T, a *apiServer, etcd kubetest.Etcd) {
	line := a.NewLine()
	p := a.shop(line)
	stays := p.keepAsking("stays.shop.svc.cluster.local", "10.43.0.5")
	endpoint := p.keepAsking("10-42-0-1.db.shop.svc.cluster.local", "10.42.0.1")
	// A watch that ends at once without an event is no watch to client-go.
	a.moveShop(1)
	p.showsMove(1)
	version := a.version("stays")

	line.Cut()
	p.logs("connect: connection refused")
	a.moveShop(2)
	a.Compact()
	a.KillAPIServer()
	a.StartServers()
	a.isGone(version)
	line.Mend()
	p.showsMove(2)
	p.readiness("200")
	all := afresh[etcd] + " watch " + afresh[etcd]
	a.wasAsked("since the start", all)
	p.stop(stays)
	p.stop(endpoint)

	t.Log("and changes come again")
	a.moveShop(3)
	p.showsMove(3)
	a.wasAsked("after changes", all)
}

// shop makes Services, one of them headless with two EndpointSlices, and starts the
// program, which reads them by way of a line.
func (a *apiServer) shop(line *kubetest.Line) *program {
	a.t.Helper()
	a.namespace("shop")
	a.create(service("stays", "10.43.0.5"))
	a.create(service("move-0", "10.43.1.0"))
	a.create(service("db", "None"))
	a.put(slice("db-1", "db", "10.42.0.1"))
	a.put(slice("db-2", "db", "10.42.1.0"))
	p := start(a.t, "kubeconfig "+a.KubeconfigThrough(line), "stale_after 1s")
	p.answers("move-0.shop.svc.cluster.local", "A", "NOERROR 10.43.1.0")
	p.answers("db.shop.svc.cluster.local", "A", "NOERROR 10.42.0.1 10.42.1.0")
	return p
}

// moveShop makes a change of every kind: a namespace comes, one Service comes and
// that of the last move goes, and an endpoint gets another address.
func (a *apiServer) moveShop(n int) {
	a.t.Helper()
	a.namespace(fmt.Sprintf("ns-%d", n))
	a.create(service(fmt.Sprintf("move-%d", n), fmt.Sprintf("10.43.1.%d", n)))
	a.delete(fmt.Sprintf("move-%d", n-1))
	a.put(slice("db-2", "db", fmt.Sprintf("10.42.1.%d", n)))
}

// showsMove waits until the program has seen all of a move.
func (p *program) showsMove(n int) {
	p.t.Helper()
	p.answers(fmt.Sprintf("ns-%d.svc.cluster.local", n), "A", "NOERROR")
	p.answers(fmt.Sprintf("move-%d.shop.svc.cluster.local", n), "A", fmt.Sprintf("NOERROR 10.43.1.%d", n))
	p.answers(fmt.Sprintf("move-%d.shop.svc.cluster.local", n-1), "A", "NXDOMAIN")
	p.answers("db.shop.svc.cluster.local", "A", fmt.Sprintf("NOERROR 10.42.0.1 10.42.1.%d", n))
}

// wasAsked fails the test unless the program has asked the API server for each
// resource as it should: "list", "watch", or "stream" for a list that is the
// beginning of a watch.
func (a *apiServer) wasAsked(when, want string) {
	a.t.Helper()
	for _, resource := range []string{"namespaces", "services", "endpointslices"} {
		var got []string
		for _, request := range a.Lists("clusterip", resource) {
			switch query := request.Query(); {
			case query.Get("sendInitialEvents") == "true":
				got = append(got, "stream")
			case query.Get("watch") == "true":
				got = append(got, "watch")
			default:
				got = append(got, "list")
			}
		}
		if got := strings.Join(got, " "); got != want {
			a.t.Errorf("%s it was asked for %s: %s; want %s", when, resource, got, want)
		}
	}
}

// version returns the resourceVersion of a Service.
func (a *apiServer) version(name string) (version string) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		s, err := c.CoreV1().Services("shop").Get(ctx, name, metav1.GetOptions{})
		version = s.ResourceVersion
		return err
	})
	return version
}

// isGone fails the test unless a watch from a version on is refused with 410.
func (a *apiServer) isGone(version string) {
	a.t.Helper()
	a.do(func(ctx context.Context, c *kubernetes.Clientset) error {
		w, err := c.CoreV1().Services("shop").Watch(ctx, metav1.ListOptions{ResourceVersion: version})
		if err != nil {
			return err
		}
		defer w.Stop()
		event := <-w.ResultChan()
		if status, ok := event.Object.(*metav1.Status); event.Type != watch.Error || !ok || status.Code != http.StatusGone {
			a.t.Errorf("a watch from version %s on begins with %s %v: %v", version, event.Type, event.Object, apierrors.FromObject(event.Object))
		}
		return nil
	})
}
