package kubernetes

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
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

// explain says what a failed request means and how to mend it.
func explain(verb string, resource schema.GroupResource, err error) error {
	switch err = lasting(err); {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s forbidden: give the ServiceAccount the verbs list and watch for %s: %w", verb, resource, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server does not know who we are: renew the token or the client certificate: %w", verb, err)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s: the API server does not have %s: %w", verb, resource, err)
	}
	return fmt.Errorf("%s: %w", verb, err)
}

// lasting leaves out of an error what differs from one attempt to the next: the
// parameters of the URL and the port we called from.
func lasting(err error) error {
	if of, ok := errors.AsType[*url.Error](err); ok {
		err = of.Err
	}
	if of, ok := errors.AsType[*net.OpError](err); ok {
		same := *of
		same.Source = nil
		err = &same
	}
	return err
}

// mended reports whether the reflector mends an error by listing anew at once: the
// version to go on from is too old, or of a history that is no more.
func mended(err error) bool {
	return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge)
}
