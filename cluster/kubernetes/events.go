package kubernetes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/reference"
)

// maxWarnings is how many warnings wait for the API server at most.
const maxWarnings = 64

// eventTime bounds what one Event may take.
const eventTime = 10 * time.Second

// How fast Events are made, at most: every node sees the same faults.
const (
	warningsPer   = time.Second
	warningsBurst = 10
)

// maxName is the most octets of an object's name (RFC 1123 subdomain).
const maxName = 253

// warning is something that the owner of a Service, or of a ServiceCIDR, is to know.
type warning struct {
	service      cluster.ServiceName
	cidr         netip.Prefix // of the ServiceCIDR, if it is about one
	reason, text string
}

// Warn makes an Event about a Service while Run runs. It does not wait for it. What
// cannot be told the API server is dropped: Events are for people, and who warns
// logs as well.
func (s *Source) Warn(service cluster.ServiceName, reason, text string) {
	s.warn(warning{service: service, reason: reason, text: text})
}

// WarnRange is Warn about the ServiceCIDR that has a range, if there is one.
func (s *Source) WarnRange(cidr netip.Prefix, reason, text string) {
	s.warn(warning{cidr: cidr, reason: reason, text: text})
}

func (s *Source) warn(w warning) {
	select {
	case s.warnings <- w:
	default:
	}
}

// recordEvents makes Events of warnings until the context is done.
func (s *Source) recordEvents(ctx context.Context) {
	pace := rate.NewLimiter(rate.Every(warningsPer), warningsBurst)
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-s.warnings:
			if pace.Wait(ctx) != nil {
				return
			}
			if err := s.record(ctx, w); ctx.Err() == nil {
				s.troubles.set("events", err)
			}
		}
	}
}

// record makes an Event whose name comes from what it says, so that of all nodes
// that see the same the first makes it.
func (s *Source) record(ctx context.Context, w warning) error {
	ctx, cancel := context.WithTimeout(ctx, eventTime)
	defer cancel()
	about, err := s.regarding(ctx, w)
	if about == nil || err != nil {
		return err
	}
	namespace := about.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault // as Events about what has none are
	}
	host, _ := os.Hostname()
	sum := sha256.Sum256([]byte(string(about.UID) + w.reason + w.text))
	event := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: eventName(about.Name, hex.EncodeToString(sum[:8]))},
		EventTime:           metav1.NowMicro(),
		ReportingController: "clusterip",
		ReportingInstance:   "clusterip-" + host,
		Action:              "Program",
		Reason:              w.reason,
		Type:                corev1.EventTypeWarning,
		Note:                w.text[:min(len(w.text), 1024)],
		Regarding:           *about,
	}
	_, err = s.clients.EventsV1().Events(namespace).Create(ctx, event, metav1.CreateOptions{})
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return nil // whoever deletes a namespace is told nothing of the Services in it
	}
	return explainEvent("create events.events.k8s.io", err)
}

// eventName is the name of an Event about an object. Names of Services are short; those of
// ServiceCIDRs may be as long as any.
func eventName(object, sum string) string {
	kept := object[:min(len(object), maxName-len(".")-len(sum))]
	return strings.TrimRight(kept, "-.") + "." + sum
}

// regarding returns the object that a warning is about; nil: it is gone.
func (s *Source) regarding(ctx context.Context, w warning) (*corev1.ObjectReference, error) {
	if w.cidr.IsValid() {
		return s.serviceCIDR(ctx, w.cidr)
	}
	service, err := s.clients.CoreV1().Services(w.service.Namespace).Get(ctx, w.service.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explainEvent("get services", err)
	}
	return reference.GetReference(scheme.Scheme, service)
}

// serviceCIDR returns the ServiceCIDR that has a range.
func (s *Source) serviceCIDR(ctx context.Context, cidr netip.Prefix) (*corev1.ObjectReference, error) {
	all, err := s.clients.NetworkingV1().ServiceCIDRs().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, explainEvent("list servicecidrs", err)
	}
	for i := range all.Items {
		c := &all.Items[i]
		if ranges, _ := readServiceCIDR(c); slices.Contains(*ranges, cidr) {
			return reference.GetReference(scheme.Scheme, c)
		}
	}
	return nil, nil
}

func explainEvent(what string, err error) error {
	if apierrors.IsForbidden(err) {
		return fmt.Errorf("forbidden to %s, so warnings are in the log alone: allow the ServiceAccount that: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
