package dnsload

import (
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// Each reply counts once, as what it is: right, wrong, or not there.
func TestRun(t *testing.T) {
	server := serve(t, func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		switch r.Question[0].Name {
		case "lost.":
			return
		case "wrong.":
			m.Rcode = dns.RcodeServerFailure
		case "cut.":
			m.Truncated = true
		}
		w.WriteMsg(m)
	})
	var questions []Question
	for _, name := range []string{"right.", "lost.", "wrong.", "cut."} {
		message, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
		if err != nil {
			t.Fatal(err)
		}
		questions = append(questions, Question{Message: message})
	}
	for _, perSecond := range []float64{0, 2000} {
		if perSecond > 0 && os.Getuid() != 0 {
			t.Skip("only root may ask before all others")
		}
		r := Load{Server: server, Questions: questions, For: 300 * time.Millisecond, PerSecond: perSecond, CPU: -1}.Run()
		if r.Failed != "" {
			t.Fatal(r.Failed)
		}
		// A load that is at an end may lack up to a quarter of what is open.
		if spare := window + batch; r.Sent < 100 || r.Answered < (r.Sent-spare)/4 || r.Wrong < (r.Sent-spare)/2 || r.Lost() < (r.Sent-spare)/4 {
			t.Errorf("%v a second: %+v, want one in four answered, two wrong", perSecond, r)
		}
		if len(r.Sample) == 0 || perSecond > 0 && (r.Sent > 700 || r.P50 <= 0 || r.P50 > r.P99 || r.P99 > r.Longest) {
			t.Errorf("%v a second: %+v", perSecond, r)
		}
	}
}

func serve(t *testing.T, handler dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: conn, Handler: handler}
	go s.ActivateAndServe()
	t.Cleanup(func() { s.Shutdown() })
	return netip.MustParseAddrPort(conn.LocalAddr().String())
}

func TestHistogram(t *testing.T) {
	var h histogram
	for i := range 100_000 {
		h.add(time.Duration(i) * time.Microsecond)
	}
	for part, want := range map[float64]time.Duration{0: 0, .5: 50 * time.Millisecond, .99: 99 * time.Millisecond, .999: 99_900 * time.Microsecond} {
		if got := h.at(part); got > want || got < want-want/32 {
			t.Errorf("%v: %v, want %v less 1/32 at most", part, got, want)
		}
	}
	if h.at(1) != h.most || h.most != 99_999*time.Microsecond {
		t.Errorf("%v and %v", h.at(1), h.most)
	}
}
