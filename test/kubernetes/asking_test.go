package kubernetes

import (
	"fmt"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// asking is a client that asks without a pause.
type asking struct {
	stopped chan struct{}
	running sync.WaitGroup
	asked   int
	failure error // the first
}

// keepAsking asks for the address of a name that must be there all the time.
func (p *program) keepAsking(name, want string) *asking {
	a := &asking{stopped: make(chan struct{})}
	a.running.Go(func() {
		client := dns.Client{Timeout: 5 * time.Second}
		query := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
		for a.failure == nil {
			select {
			case <-a.stopped:
				return
			default:
			}
			query.Id = dns.Id()
			reply, _, err := client.Exchange(query, "127.0.0.1:"+p.dns)
			if a.asked++; err != nil {
				a.failure = fmt.Errorf("question %d: %w", a.asked, err)
			} else if len(reply.Answer) != 1 || reply.Answer[0].(*dns.A).A.String() != want {
				a.failure = fmt.Errorf("question %d: got\n%v", a.asked, reply)
			}
		}
	})
	return a
}

// stop ends it and fails the test if a question was not answered right.
func (p *program) stop(a *asking) {
	p.t.Helper()
	close(a.stopped)
	a.running.Wait()
	if a.failure != nil {
		p.t.Error(a.failure)
	}
	p.t.Logf("%d questions", a.asked)
}
