package kubernetes

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
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

// ErrGoingOn is in what is reported of a kind of objects that is missing and without
// which all is well.
var ErrGoingOn = errors.New("going on without")

// explain says what a failed request means and how to mend it. The verb is left out where
// it makes no difference: of a server that answers nothing, or is too busy, client-go
// asks for a streamed list and an ordinary one by turns.
func explain(verb string, resource schema.GroupResource, err error) error {
	switch err = lasting(err); {
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s forbidden: give the ServiceAccount the verbs list and watch for %s: %w", verb, resource, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("the API server does not know who we are: renew the token or the client certificate: %w", err)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s: the API server does not have %s: %w", verb, resource, err)
	}
	if mend := unsecured(err); mend != "" {
		return fmt.Errorf("%s: %w", mend, err)
	}
	return err
}

// unsecured says how to mend a failure to make a secure connection; "" if something
// else has failed.
func unsecured(err error) string {
	var (
		_, authority = errors.AsType[x509.UnknownAuthorityError](err)
		_, host      = errors.AsType[x509.HostnameError](err)
		_, invalid   = errors.AsType[x509.CertificateInvalidError](err)
	)
	switch {
	case authority:
		return "give the CA that has signed the API server's certificate: it is certificate-authority in a kubeconfig, and with endpoint the third file of tls"
	case host:
		return "name the API server, in the kubeconfig or with endpoint, as its certificate does"
	case invalid:
		return "renew the API server's certificate, unless it is the clock here that is wrong"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the server does not speak TLS: is that the port of an API server? If it is, begin its URL, in the kubeconfig or with endpoint, with http://"
	case wantsTLS(err):
		return "begin the URL of the API server, in the kubeconfig or with endpoint, with https://"
	}
	return ""
}

// wantsTLS knows the answer of a server written in Go to a request without TLS, by its
// text: there is nothing else to know it by.
func wantsTLS(err error) bool {
	cause, ok := apierrors.StatusCause(err, metav1.CauseTypeUnexpectedServerResponse)
	return ok && strings.Contains(cause.Message, "HTTP request to an HTTPS server")
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
