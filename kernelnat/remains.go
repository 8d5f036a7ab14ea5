package kernelnat

import (
	"errors"
	"fmt"
	"time"
)

// remains are what another backend has left and Sync could not remove. Meanwhile changes are
// written as ever.
type remains struct {
	why   string // "": there are none
	delay time.Duration
	again time.Time
}

// next is when to try once more; ok is false if nothing remains.
func (r *remains) next() (at time.Time, ok bool) { return r.again, r.why != "" }

// note takes over what a Sync has ended with, and adds when it is repeated.
func (r *remains) note(err error) error {
	if !errors.Is(err, ErrRemains) {
		*r = remains{}
		return err
	}
	r.why = err.Error()
	r.delay = min(max(2*r.delay, firstSetAside), lastSetAside)
	r.again = time.Now().Add(r.delay)
	return fmt.Errorf("%w; trying again in %v", err, r.delay)
}
