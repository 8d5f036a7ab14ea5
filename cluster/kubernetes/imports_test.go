package kubernetes

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

const importsPath = "/apis/multicluster.x-k8s.io/v1alpha1/serviceimports"

// Without the definition of ServiceImports all the rest goes on; when it is installed
// they come. One watch of EndpointSlices is for them and for Services.
func TestImports(t *testing.T) {
	both := about("3", "shop", "web-1")
	both.Labels = map[string]string{
		discoveryv1.LabelServiceName: "derived-web", mcsv1alpha1.LabelServiceName: "web", mcsv1alpha1.LabelSourceCluster: "east",
	}
	api := &streamer{t: t, objects: map[string][]runtime.Object{
		namespacesPath: {example(namespacesPath, about("1", "", "shop"))},
		servicesPath:   {example(servicesPath, about("2", "shop", "derived-web"))},
		slicesPath:     {example(slicesPath, both)},
		importsPath:    {example(importsPath, about("4", "shop", "web"))},
	}}
	var installed atomic.Bool
	var slicesAsked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == importsPath && !installed.Load() {
			http.NotFound(w, r)
			return
		}
		if r.URL.Path == slicesPath {
			slicesAsked.Add(1)
		}
		api.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	troubles := make(chan string, 10)
	source, err := New(Options{Endpoint: server.URL, Imports: true}, func(place string, err error) { troubles <- fmt.Sprint(place, " ", err) })
	if err != nil {
		t.Fatal(err)
	}
	updates := follow(t, source)
	if first := <-updates; !first.Synced || len(first.Imports) > 0 || len(first.Services) != 1 || first.Services[0].Service.Endpoints[0].Cluster() != "" {
		t.Errorf("the first Update is %+v", first)
	}
	if told := <-troubles; !strings.HasPrefix(told, "serviceimports.multicluster.x-k8s.io ") || !strings.HasSuffix(told, "going on without") {
		t.Errorf("told %q", told)
	}
	installed.Store(true)
	next := <-updates
	if len(next.Services) > 0 || len(next.Imports) != 1 || next.Imports[0].Service.Kind != cluster.KindHeadless ||
		len(next.Imports[0].Service.Endpoints) != 1 || next.Imports[0].Service.Endpoints[0].Cluster() != "east" {
		t.Errorf("the next Update is %+v", next)
	}
	if told := <-troubles; told != "serviceimports.multicluster.x-k8s.io <nil>" {
		t.Errorf("told %q", told)
	}
	if n := slicesAsked.Load(); n != 1 {
		t.Errorf("EndpointSlices were asked for %d times", n)
	}
}

// An EndpointSlice may be for a Service, an import, or both; what nobody asked for is
// left out.
func TestSliceReader(t *testing.T) {
	for _, c := range []struct {
		local, imported bool
		want            slice
	}{
		{true, false, slice{local: &backing{owner: key{Namespace: "shop", Name: "web"}}}},
		{false, true, slice{imported: &backing{owner: key{Namespace: "shop", Name: "far"}}}},
	} {
		s := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Labels: map[string]string{
			discoveryv1.LabelServiceName: "web", mcsv1alpha1.LabelServiceName: "far",
		}}}
		read := sliceReader(Options{NoEndpoints: !c.local, Imports: c.imported})
		if got, err := read(s); err != nil || !reflect.DeepEqual(*got, c.want) {
			t.Errorf("%v %v: got %+v, %v", c.local, c.imported, got, err)
		}
		if got, err := read(&discoveryv1.EndpointSlice{}); got != nil || err != nil {
			t.Errorf("one of nobody is %+v, %v", got, err)
		}
	}
}

// With noendpoints the slices of imports alone are watched.
func TestImportsWithoutEndpoints(t *testing.T) {
	for _, labels := range []string{"", "app=web"} {
		asked := make(chan string, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == slicesPath {
				select {
				case asked <- r.URL.Query().Get("labelSelector"):
				default:
				}
			}
			http.NotFound(w, r)
		}))
		source, err := New(Options{Endpoint: server.URL, NoEndpoints: true, Imports: true, Labels: labels}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { source.Run(ctx, cluster.NewStore(), atOnce) })
		if got, want := <-asked, strings.TrimPrefix(labels+","+mcsv1alpha1.LabelServiceName, ","); got != want {
			t.Errorf("labels %q: selected are %q, want %q", labels, got, want)
		}
		cancel()
		running.Wait()
		server.Close()
	}
}
