package kubernetes

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// streamer plays an API server that streams its lists. What it does not have it says
// it does not have.
type streamer struct {
	t       *testing.T
	objects map[string][]runtime.Object // by path
	events  map[string]chan metav1.WatchEvent
}

const (
	namespacesPath = "/api/v1/namespaces"
	servicesPath   = "/api/v1/services"
	nodesPath      = "/api/v1/nodes"
	slicesPath     = "/apis/discovery.k8s.io/v1/endpointslices"
)

func (s *streamer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	objects, known := s.objects[r.URL.Path]
	query := r.URL.Query()
	switch {
	case !known:
		http.NotFound(w, r)
		return
	case query.Get("watch") != "true" || query.Get("sendInitialEvents") != "true":
		s.t.Errorf("%s was not asked to stream: %s", r.URL.Path, r.URL.RawQuery)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	for _, o := range objects {
		s.send(w, "ADDED", o)
	}
	end := metav1.ObjectMeta{ResourceVersion: "100", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}
	s.send(w, "BOOKMARK", example(r.URL.Path, end))
	for {
		select {
		case <-r.Context().Done():
			return
		case event := <-s.events[r.URL.Path]:
			s.send(w, event.Type, event.Object.Object)
		}
	}
}

func (s *streamer) send(w http.ResponseWriter, kind string, o runtime.Object) {
	raw, err := json.Marshal(o)
	if err != nil {
		s.t.Error(err)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": json.RawMessage(raw)})
	w.(http.Flusher).Flush()
}

// example is an object of the kind that a path has.
func example(path string, about metav1.ObjectMeta) runtime.Object {
	switch path {
	case namespacesPath:
		return &corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: about}
	case servicesPath:
		return &corev1.Service{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}, ObjectMeta: about,
			Spec: corev1.ServiceSpec{ClusterIP: "10.43.0.7", Ports: []corev1.ServicePort{{Port: 80}}}}
	case nodesPath:
		return &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}, ObjectMeta: about}
	case importsPath:
		return &mcsv1alpha1.ServiceImport{TypeMeta: metav1.TypeMeta{APIVersion: "multicluster.x-k8s.io/v1alpha1", Kind: "ServiceImport"}, ObjectMeta: about,
			Spec: mcsv1alpha1.ServiceImportSpec{Type: mcsv1alpha1.Headless}}
	}
	return &discoveryv1.EndpointSlice{TypeMeta: metav1.TypeMeta{APIVersion: "discovery.k8s.io/v1", Kind: "EndpointSlice"}, ObjectMeta: about,
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.42.0.1"}}}}
}

func about(version, namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{ResourceVersion: version, Namespace: namespace, Name: name,
		Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}
}

// follow runs a Source for as long as the test and returns what its Store is told.
func follow(t *testing.T, source *Source) <-chan cluster.Update {
	store := cluster.NewStore()
	updates := make(chan cluster.Update, 10)
	store.Subscribe(func(u cluster.Update) { updates <- u })
	<-updates // the empty Store's
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { source.Run(ctx, store, atOnce) })
	t.Cleanup(running.Wait)
	t.Cleanup(cancel)
	return updates
}

// Lists are streamed; the first Update is whole; a kind that may be missing does not
// keep the others.
func TestRun(t *testing.T) {
	api := &streamer{t: t,
		objects: map[string][]runtime.Object{
			namespacesPath: {example(namespacesPath, about("1", "", "shop"))},
			servicesPath:   {example(servicesPath, about("2", "shop", "web"))},
			slicesPath:     {example(slicesPath, about("3", "shop", "web-1"))},
			nodesPath:      {example(nodesPath, about("4", "", "node-1"))},
		},
		events: map[string]chan metav1.WatchEvent{slicesPath: make(chan metav1.WatchEvent)},
	}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	troubles := make(chan error, 10)
	source, err := New(Options{Endpoint: server.URL, Node: "node-1"}, func(place string, err error) { troubles <- fmt.Errorf("%s %w", place, err) })
	if err != nil {
		t.Fatal(err)
	}
	updates := follow(t, source)
	first := <-updates
	if !first.Synced || len(first.Namespaces) != 1 || len(first.Services) != 1 || len(first.Nodes) != 1 ||
		len(first.Services[0].Service.Endpoints) != 1 {
		t.Errorf("the first Update is %+v", first)
	}
	if told := <-troubles; !strings.HasPrefix(told.Error(), "servicecidrs.networking.k8s.io ") || !errors.Is(told, ErrGoingOn) {
		t.Errorf("told %q", told)
	}
	var watched []string
	for _, w := range source.Watches() {
		watched = append(watched, w.Kind)
		if w.LastSign.IsZero() || !w.BrokenSince.IsZero() {
			t.Errorf("the watch is %+v", w)
		}
	}
	if want := []string{"endpointslices.discovery.k8s.io", "namespaces", "nodes", "services"}; !slices.Equal(watched, want) {
		t.Errorf("watches are of %q, want %q", watched, want)
	}

	api.events[slicesPath] <- metav1.WatchEvent{Type: "DELETED", Object: runtime.RawExtension{Object: example(slicesPath, about("101", "shop", "web-1"))}}
	if next := <-updates; next.Synced || len(next.Services) != 1 || len(next.Services[0].Service.Endpoints) != 0 {
		t.Errorf("the next Update is %+v", next)
	}
}

// busy plays an API server that has no time: at once, or once a list has begun to
// stream in.
func busy(streams bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := apierrors.NewTooManyRequests("busy", 30).Status()
		status.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "30")
		if streams && r.URL.Query().Get("watch") == "true" {
			json.NewEncoder(w).Encode(map[string]any{"type": "ERROR", "object": status})
			return
		}
		w.WriteHeader(http.StatusTooManyRequests)
		json.NewEncoder(w).Encode(status)
	})
}

// A server that asks for patience is no reason to end late.
func TestRunEndsAtOnce(t *testing.T) {
	for _, streams := range []bool{false, true} {
		server := httptest.NewServer(busy(streams))
		defer server.Close()
		troubled := make(chan string, 100)
		source, err := New(Options{Endpoint: server.URL}, func(place string, err error) { troubled <- fmt.Sprint(place, " ", err) })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			source.Run(ctx, cluster.NewStore(), atOnce)
		}()
		source.Warn(cluster.ServiceName{Namespace: "shop", Name: "web"}, "Reason", "text")
		if told := <-troubled; !strings.Contains(told, "busy") {
			t.Errorf("streams %v: told %q", streams, told)
		}
		time.Sleep(3 * time.Second) // by then the pauses are long
		cancel()
		begun := time.Now()
		<-ended
		if took := time.Since(begun); took > time.Second {
			t.Errorf("streams %v: ended after %s", streams, took)
		}
	}
}

// Load says what kept it.
func TestLoad(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := Load(ctx, Options{Endpoint: server.URL}); err == nil || !strings.Contains(err.Error(), "the API server does not have") {
		t.Errorf("got %v", err)
	}
}

// Load returns as soon as it knows everything.
func TestLoadEnds(t *testing.T) {
	server := httptest.NewServer(&streamer{t: t, objects: map[string][]runtime.Object{
		namespacesPath: {example(namespacesPath, about("1", "", "shop"))}, servicesPath: nil, slicesPath: nil,
	}})
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if u, err := Load(ctx, Options{Endpoint: server.URL}); err != nil || len(u.Namespaces) != 1 || ctx.Err() != nil {
		t.Errorf("got %+v, %v; waited until the end: %v", u, err, ctx.Err())
	}
}

func TestNewErrors(t *testing.T) {
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{}, "name an API server with kubeconfig FILE or endpoint URL"},
		{Options{Kubeconfig: "/nowhere"}, "read kubeconfig /nowhere"},
		{Options{Endpoint: "https://192.0.2.1", CAFile: "/nowhere"}, "/nowhere"},
		{Options{Endpoint: "::"}, "API server ::"},
		{Options{Endpoint: "https://192.0.2.1 ::"}, "API server ::"},
	} {
		if _, err := New(c.options, quiet); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", c.options, err, c.want)
		}
	}
}

// The same failure is told once, though each attempt fails in other words, and at the
// start client-go tries two verbs by turns.
func TestTroublesOnce(t *testing.T) {
	var told []string
	s := troubles{report: func(place string, err error) { told = append(told, fmt.Sprint(place, " ", err)) }, present: make(map[string]string)}
	for port := range 3 {
		s.set("services", explain([]string{"watch", "list"}[port%2], corev1.Resource("services"), &url.Error{
			Op: "Get", URL: fmt.Sprintf("https://192.0.2.1/api/v1/services?timeoutSeconds=%d", port),
			Err: &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: port}, Err: errors.New("connection reset by peer")},
		}))
	}
	s.set("services", nil)
	s.set("services", nil)
	want := []string{"services read tcp: connection reset by peer", "services <nil>"}
	if !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}

// Where no secure connection comes about it is said how to mend that.
func TestUnsecured(t *testing.T) {
	plain, secure := httptest.NewServer(http.NotFoundHandler()), httptest.NewUnstartedServer(http.NotFoundHandler())
	defer plain.Close()
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	address := secure.Listener.Addr().String()
	_, port, _ := net.SplitHostPort(address)
	for _, c := range []struct {
		options Options
		want    string
	}{
		{Options{Endpoint: "https://" + plain.Listener.Addr().String()}, "the server does not speak TLS"},
		{Options{Endpoint: "https://" + address}, "give the CA"},
		{Options{Endpoint: "https://localhost:" + port, CAFile: ca}, "as its certificate does"},
		{Options{Endpoint: "http://" + address}, "with https://"},
		{Options{Endpoint: address}, "with https://"},
		{Options{Endpoint: address, CAFile: ca}, "the API server does not have"}, // TLS, since there is a CA
	} {
		told := make(chan error, 10)
		source, err := New(c.options, func(_ string, err error) { told <- err })
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go source.Run(ctx, cluster.NewStore(), atOnce)
		if err := <-told; !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%+v: told %v, want %q", c.options, err, c.want)
		}
		cancel()
	}
	expired := explain("list", corev1.Resource("services"), &tls.CertificateVerificationError{Err: x509.CertificateInvalidError{Reason: x509.Expired}})
	if !strings.Contains(expired.Error(), "renew the API server's certificate") {
		t.Errorf("an expired certificate: %v", expired)
	}
}

// A watch is broken from the first failure on, and no more with a sign of life.
func TestWatches(t *testing.T) {
	w := &watches{all: make(map[string]Watch)}
	w.sign("services")
	w.failed("services")
	since := w.list()[0].BrokenSince
	w.failed("services")
	if got := w.list()[0]; since.IsZero() || got.BrokenSince != since || got.LastSign.IsZero() {
		t.Errorf("after two failures it is %+v, and %v after the first", got, since)
	}
	w.failed("serviceimports")
	w.sign("services")
	if got := w.list()[1]; !got.BrokenSince.IsZero() {
		t.Errorf("after a sign of life it is %+v", got)
	}
	if w.brokenSince.Load() == nil {
		t.Error("nothing is broken while one kind is")
	}
	w.forget("serviceimports")
	if since := w.brokenSince.Load(); since != nil || len(w.list()) != 1 {
		t.Errorf("what is forgotten is broken since %v, and there are %v", since, w.list())
	}
}

func TestServiceCIDRs(t *testing.T) {
	j := newJoiner(cluster.Update{}, false, quiet)
	for name, cidr := range map[string]string{"a": "10.43.0.0/16", "b": "fd00:10:43::/108", "c": "10.43.0.0/16"} {
		j.ranges.set(object[[]netip.Prefix]{key: key{Name: name}, version: "1", model: &[]netip.Prefix{netip.MustParsePrefix(cidr)}})
	}
	if got := fmt.Sprint(j.take().ServiceCIDRs); got != "[10.43.0.0/16 fd00:10:43::/108]" {
		t.Errorf("the ranges are %s", got)
	}
	j.ranges.remove(key{Name: "b"})
	if got := fmt.Sprint(j.take().ServiceCIDRs); got != "[10.43.0.0/16]" {
		t.Errorf("the ranges are %s", got)
	}
}

// atOnce takes over where no other source runs.
func atOnce(publish func()) { publish() }
