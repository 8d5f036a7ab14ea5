package kubernetes

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes/scheme"
)

// An Event about an object has a valid name of its own, however long the object's is.
func TestEventName(t *testing.T) {
	const sum = "0123456789abcdef"
	long := strings.Repeat("a", 100) + "-" + strings.Repeat("b", 134)
	names := []string{"web", "a.b", long + "-.x.y", long + ".x", long + "ab." + strings.Repeat("c", 16), strings.Repeat("d.", 126) + "d"}
	for _, object := range names {
		got := eventName(object, sum)
		if wrong := validation.IsDNS1123Subdomain(got); len(wrong) > 0 {
			t.Errorf("of %s: %s: %q", object, got, wrong)
		}
		if !strings.HasSuffix(got, "."+sum) || len(object) < 200 && got != object+"."+sum {
			t.Errorf("of %s: %s", object, got)
		}
	}
}

// Whoever may not make Events is told to allow it, and nobody when a namespace is on its way out.
func TestForbiddenEvents(t *testing.T) {
	for _, terminating := range []bool{false, true} {
		refused := apierrors.NewForbidden(eventsv1.Resource("events"), "web.0", errors.New("no"))
		if terminating {
			refused.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var answer runtime.Object = &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
			w.Header().Set("Content-Type", "application/json")
			if r.Method == http.MethodPost {
				w.WriteHeader(http.StatusForbidden)
				answer = &refused.ErrStatus
			}
			_ = scheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion).Encode(answer, w)
		}))
		t.Cleanup(server.Close)
		source, err := New(Options{Endpoint: server.URL}, func(string, error) {})
		if err != nil {
			t.Fatal(err)
		}
		err = source.record(t.Context(), warning{service: cluster.ServiceName{Namespace: "shop", Name: "web"}, reason: "FrontendRefused", text: "something is wrong"})
		if (err == nil) != terminating || err != nil && !strings.Contains(err.Error(), "allow the ServiceAccount that") {
			t.Errorf("in a namespace that is being deleted: %t: %v", terminating, err)
		}
	}
}
