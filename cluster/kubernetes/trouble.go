package kubernetes

import (
	"fmt"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// troubles tells what is wrong once while it lasts.
type troubles struct {
	report  func(place string, err error)
	mu      sync.Mutex
	present map[string]string // text by place
}

// set says what is wrong at a place, or with nil that nothing is.
func (t *troubles) set(place string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text, known := t.present[place]
	switch {
	case err == nil && !known, err != nil && known && err.Error() == text:
		return
	case err == nil:
		delete(t.present, place)
	default:
		t.present[place] = err.Error()
	}
	t.report(place, err)
}

// explain says what a failed request means and how to mend it. It leaves out what
// differs from one attempt to the next, such as the port a connection came from.
func explain(verb string, resource schema.GroupResource, err error) error {
	switch {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s forbidden: give the ServiceAccount the verbs list and watch for %s: %w", verb, resource, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server does not know who we are: renew the token or the client certificate: %w", verb, err)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s: the API server does not have %s: %w", verb, resource, err)
	case utilnet.IsConnectionRefused(err):
		return fmt.Errorf("%s: the API server refuses connections: %w", verb, err)
	}
	return fmt.Errorf("%s: %w", verb, err)
}
