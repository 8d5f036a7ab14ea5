// Package fastpath answers DNS queries over UDP on sockets of its own beside those of CoreDNS's server, in the same
// process. It reads queries in batches, answers what an Answerer can answer on the thread that read it, and gives the
// rest to CoreDNS's plugin chain.
//
// It knows sockets and CoreDNS's server. It knows neither Services nor how an answer is made.
//
// Open joins the reuseport group of CoreDNS's socket and has the kernel choose sockets of ours only (steer.go). If
// ours close, the kernel is left with CoreDNS's socket and gives it everything. A reader (reader.go) has one socket
// and one thread's worth of work. What it leaves goes to a chain (chain.go), which bounds how many queries are at
// work and how many wait.
//
// Sockets outlive a reload (sockets.go): the old server and the new one have a Group each at the same sockets, and
// the younger group answers. So a reload closes no socket in which a query could wait.
package fastpath

import (
	"net/netip"
	"runtime"
	"time"

	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/miekg/dns"
)

var log = clog.NewWithPlugin("clusterip")

// Answerer answers the queries that one socket receives. It is used by one goroutine at a time.
type Answerer interface {
	// Answer appends the reply to a query to reply, which is empty and has some capacity. It is false where the chain is
	// to answer. It keeps nothing of what it is given. A query is whole, of any content, and of at most 512 octets. The
	// client's address is never one of IPv4 in IPv6, and has no zone.
	Answer(reply, query []byte, from netip.AddrPort) ([]byte, bool)
	// Flush is called when a batch is dealt with and its replies are sent, with the time since it was read.
	Flush(took time.Duration)
}

// Options say how the queries to one address are answered.
type Options struct {
	// Threads is the number of sockets, each read by a goroutine of its own. 0 means GOMAXPROCS.
	Threads int
	// Answerer makes the answerer of a socket.
	Answerer func() Answerer
	// Chain answers what an Answerer does not. Many goroutines call it at a time.
	Chain func(w dns.ResponseWriter, r *dns.Msg)
	// Dropped is called for each query that is not answered since too many waited for the chain, and Unsent with the
	// number of replies that the kernel has not taken.
	Dropped func()
	Unsent  func(n int)
}

func (o Options) complete() Options {
	if o.Threads <= 0 {
		o.Threads = runtime.GOMAXPROCS(0)
	}
	if o.Dropped == nil {
		o.Dropped = func() {}
	}
	if o.Unsent == nil {
		o.Unsent = func(int) {}
	}
	return o
}
