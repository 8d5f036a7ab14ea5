package admin

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/clusterip/clusterip/explain"
)

// page serves people over HTTP at an address. The zero address is nowhere.
type page struct {
	at      netip.AddrPort
	handler http.Handler

	mu     sync.Mutex
	cancel context.CancelFunc // has it not be tried again
	inbox  *inbox             // nil: it has never served
}

// opened is the last page that was. CoreDNS discards the server of a reload that failed late
// without shutting it down; the one that goes on closes its page.
var opened atomic.Pointer[page]

// restFactor is for how many times as long as an answer took to make none is made for a page: so
// answers take a twentieth of one processor, whoever asks for whatever, but for those that take
// so long that longestRest bounds the rest.
const restFactor = 19

func newPage(at netip.AddrPort, a *answers) *page {
	mux := http.NewServeMux()
	api := a.handler(newLane(restFactor))
	for _, path := range []string{explain.Path, overviewPath, servicesPath} {
		mux.Handle(path, api)
	}
	mux.Handle("/", assets)
	return &page{at: at, handler: guard(mux)}
}

// retry is how often the address is tried while another program has it.
const retry = 5 * time.Second

// open serves, in place of the server before a reload. Where it cannot, the names and NAT go
// on without, and it is tried again.
func (p *page) open() error {
	if !p.at.IsValid() {
		return nil
	}
	if !p.at.Addr().IsLoopback() {
		log.Warningf("the page at %s shows the names and addresses of all Services to whoever can connect to it", p.at)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	opened.Store(p)
	err := p.serve()
	if err == nil {
		log.Infof("the page is at http://%s/", p.at)
		return nil
	}
	log.Errorf("there is no page yet: %v; trying again every %v", err, retry)
	go p.tryAgain(ctx)
	return nil
}

func (p *page) tryAgain(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
		}
		p.mu.Lock()
		err := ctx.Err()
		if err == nil {
			err = p.serve()
		}
		p.mu.Unlock()
		if err == nil {
			log.Infof("the page is at http://%s/", p.at)
			return
		}
	}
}

// serve has the listener at the address give this page its connections. The server before, if
// there is one, gets no more.
func (p *page) serve() error {
	server := &http.Server{
		Handler: p.handler, ReadTimeout: pageTimeout, WriteTimeout: pageTimeout, IdleTimeout: pageIdle, MaxHeaderBytes: 8 << 10,
		DisableGeneralOptionsHandler: true,
	}
	in := newInbox(p.at, func() { end(server) })
	before, err := listeners.take(in)
	if err != nil {
		return err
	}
	if before != nil {
		before.end()
	}
	p.inbox = in
	go server.Serve(in)
	return nil
}

// end has the requests answered that are on their way, and nobody wait for clients that hang.
// While a Shutdown goes on, net/http drops requests that come on connections it has accepted.
func end(server *http.Server) {
	server.SetKeepAlivesEnabled(false)
	time.AfterFunc(lastAnswers, func() { server.Close() })
}

// resume serves again when a reload has failed, and ends what that has begun.
func (p *page) resume() error {
	if p.cancel != nil {
		p.cancel()
	}
	other := opened.Load()
	err := p.open()
	if other != nil && other != p {
		other.close()
	}
	return err
}

// close ends the server, and its listener too if no other server has that by now.
func (p *page) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cancel != nil {
		p.cancel()
	}
	if p.inbox != nil {
		listeners.give(p.inbox)
		p.inbox.end()
	}
	return nil
}
