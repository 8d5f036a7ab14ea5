package kubernetes

import (
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// streamed is a watch that begins with a list. A server that is too busy may break
// the list off after it has answered. The reflector would then make one pause after
// another, in silence, which nothing can cut short. After any other error it tries an
// ordinary list, which tells more, so it is given another.
type streamed struct {
	watch.Interface
	events chan watch.Event
	ended  chan struct{}
	end    func()
	// broken is called with the error before the reflector gets another for it.
	broken func(error)
}

func newStreamed(events watch.Interface, broken func(error)) *streamed {
	s := &streamed{Interface: events, events: make(chan watch.Event), ended: make(chan struct{}), broken: broken}
	s.end = sync.OnceFunc(func() { close(s.ended) })
	go s.pass()
	return s
}

// ResultChan implements watch.Interface.
func (s *streamed) ResultChan() <-chan watch.Event { return s.events }

// Stop implements watch.Interface.
func (s *streamed) Stop() {
	s.end()
	s.Interface.Stop()
}

// pass passes events on until the watch ends, or is stopped and nobody takes them.
func (s *streamed) pass() {
	defer close(s.events)
	listed := false
	for event := range s.Interface.ResultChan() {
		listed = listed || endsList(event)
		if err := tooBusy(event); err != nil && !listed {
			s.broken(err)
			status := apierrors.NewServiceUnavailable(err.Error()).Status()
			event.Object = &status
		}
		select {
		case s.events <- event:
		case <-s.ended:
			return
		}
	}
}

func endsList(event watch.Event) bool {
	if event.Type != watch.Bookmark {
		return false
	}
	about, ok := event.Object.(metav1.Object)
	return ok && about.GetAnnotations()[metav1.InitialEventsAnnotationKey] == "true"
}

// tooBusy returns the error of an event that says so, or nil.
func tooBusy(event watch.Event) error {
	if event.Type != watch.Error {
		return nil
	}
	if err := apierrors.FromObject(event.Object); apierrors.IsTooManyRequests(err) {
		return err
	}
	return nil
}
