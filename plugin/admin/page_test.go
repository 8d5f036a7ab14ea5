package admin

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
)

// newTestPage returns one that serves so many Services at an address of loopback.
func newTestPage(t *testing.T, at netip.AddrPort, services int) *page {
	t.Helper()
	p := newPage(at, newAnswers(parts(t, services)))
	t.Cleanup(func() { p.close() })
	return p
}

func freeAddress(t *testing.T) netip.AddrPort {
	return netip.MustParseAddrPort("127.0.0.1:" + kubetest.FreePort(t))
}

// What may be asked, and by which name.
func TestGuard(t *testing.T) {
	p := newTestPage(t, freeAddress(t), 3)
	p.open()
	for _, c := range []struct {
		request string // the first line without the version
		host    string
		body    string
		code    int
	}{
		{"GET /", "127.0.0.1:80", "", 200},
		{"HEAD /", "localhost", "", 200},
		{"GET /", "LOCALHOST:9999", "", 200},
		{"GET /overview", "[::1]:80", "", 200},
		{"HEAD /services", "127.0.0.1", "", 200},
		{"GET /explain?target=shop/web", "127.9.9.9", "", 200},
		{"GET /explain?target=a/b/c", "127.0.0.1", "", 400},
		{"GET /", "evil.example", "", 403},
		{"GET /services", "evil.example:80", "", 403},
		{"GET /", "localhost.evil.example", "", 403},
		{"GET /", "0.0.0.0", "", 403},
		{"GET /", "192.0.2.1", "", 403},
		{"GET /", "127.0.0.1.evil.example", "", 403},
		{"GET http://evil.example/", "127.0.0.1", "", 403},
		{"GET /", "", "", 403},
		{"POST /services", "127.0.0.1", "", 405},
		{"DELETE /", "127.0.0.1", "", 405},
		{"OPTIONS *", "127.0.0.1", "", 405},
		{"GET /services", "127.0.0.1", "a body", 413},
		{"GET /../admin.go", "127.0.0.1", "", 404},
		{"GET /%2e%2e/setup.go", "127.0.0.1", "", 404},
		{"GET /uplot/", "127.0.0.1", "", 404},
		{"GET //etc/passwd", "127.0.0.1", "", 404},
		{"GET /" + strings.Repeat("a", 16<<10), "127.0.0.1", "", 431},
	} {
		conn, err := net.Dial("tcp", p.at.String())
		if err != nil {
			t.Fatal(err)
		}
		length := ""
		if c.body != "" {
			length = fmt.Sprintf("Content-Length: %d\r\n", len(c.body))
		}
		fmt.Fprintf(conn, "%s HTTP/1.1\r\nHost: %s\r\n%s\r\n%s", c.request, c.host, length, c.body)
		answer, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: strings.Fields(c.request)[0]})
		conn.Close()
		what := fmt.Sprintf("%.60s, Host %s", c.request, c.host)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		// net/http itself, and its mux, answer some before the guard is asked, with another code that refuses.
		refused := c.code >= 400 && answer.StatusCode >= 300
		if answer.StatusCode != c.code && !(refused && c.code == 404) {
			t.Errorf("%s: %s, want %d", what, answer.Status, c.code)
		}
		if answer.StatusCode == http.StatusOK || answer.StatusCode == http.StatusForbidden {
			checkHeaders(t, what, answer.Header)
		}
	}
}

func checkHeaders(t *testing.T, what string, h http.Header) {
	t.Helper()
	csp := h.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "img-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, part) {
			t.Errorf("%s: the policy %q lacks %s", what, csp, part)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "http") || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Set-Cookie") != "" {
		t.Errorf("%s: headers %v", what, h)
	}
}

// Where the page is at all addresses, it is asked for by the one that the client has connected to.
func TestOtherAddress(t *testing.T) {
	served := httptest.NewServer(guard(assets))
	defer served.Close()
	for host, want := range map[string]int{"127.0.0.1": 200, "192.0.2.1": 403} {
		r, _ := http.NewRequest(http.MethodGet, served.URL, http.NoBody)
		r.Host = host
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("%s: %s", host, answer.Status)
		}
	}
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Host = "192.0.2.7:8053"
	local := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 8053}
	if r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local)); !isOurs(r) {
		t.Error("the address of the connection is refused")
	}
}

// However many clients ask at once, one answer is made at a time, and between them there is a rest.
func TestOneAtATime(t *testing.T) {
	const long = 20 * time.Millisecond
	var at, most, done atomic.Int32
	a := newAnswers(parts(t, 1))
	slow := func(*http.Request) (any, error) {
		most.Store(max(most.Load(), at.Add(1)))
		time.Sleep(long)
		at.Add(-1)
		done.Add(1)
		return 1, nil
	}
	lanes := []lane{newLane(0), newLane(restFactor)}
	began := time.Now()
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			if _, err := a.make(httptest.NewRequest(http.MethodGet, "/", http.NoBody), slow, lanes[i%2]); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() != 1 || done.Load() != 10 {
		t.Errorf("%d at once, %d answers", most.Load(), done.Load())
	}
	if least := 4 * (1 + restFactor) * long; time.Since(began) < least {
		t.Errorf("five answers of a page take %v, with less rest than %v", time.Since(began), least)
	}
}

// Clients beyond the bound wait, and get their answer when others have gone.
func TestManyClients(t *testing.T) {
	p := newTestPage(t, freeAddress(t), 1)
	p.open()
	var idle []net.Conn
	for range pageClients {
		conn, err := net.Dial("tcp", p.at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
		fmt.Fprint(conn, "GET /icon.svg HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Fatal(err)
		}
	}
	answered := make(chan error, 1)
	go func() {
		answer, err := http.Get("http://" + p.at.String() + "/icon.svg")
		if err == nil {
			answer.Body.Close()
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("one more than %d clients is answered: %v", pageClients, err)
	case <-time.After(200 * time.Millisecond):
	}
	idle[0].Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

// On a reload no connection is refused or reset, whoever has the page by then; and a client that hangs
// holds nothing up.
func TestPageTakeOver(t *testing.T) {
	at := freeAddress(t)
	old := newTestPage(t, at, 1)
	old.open()
	hanging, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	fmt.Fprint(hanging, "GET / HTTP/1.1\r\n")
	ctx, stop := context.WithCancel(t.Context())
	var answered atomic.Int32
	var asking sync.WaitGroup
	asking.Go(func() { askUntil(ctx, t, at, &answered) })
	for i := range int32(5) {
		clustertest.Eventually(t, time.Minute, "requests are answered", func() error {
			if n := answered.Load(); n < 4*i {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		next := newTestPage(t, at, 2)
		next.open()
		old.close()
		old = next
	}
	discarded := newTestPage(t, freeAddress(t), 3) // a reload that fails late, to another address
	discarded.open()
	old.resume()
	if _, err := net.Dial("tcp", discarded.at.String()); err == nil {
		t.Error("the page of a reload that failed is still there")
	}
	discarded = newTestPage(t, at, 3) // and to the same
	discarded.open()
	old.resume()
	if n := total(t, at); n != 2 {
		t.Errorf("after a reload that failed %d Services are told", n)
	}
	stop()
	asking.Wait()
	old.close()
	if _, err := net.Dial("tcp", at.String()); err == nil {
		t.Error("the page is there when it is closed")
	}
}

// askUntil asks again and again, each time on a connection of its own.
func askUntil(ctx context.Context, t *testing.T, at netip.AddrPort, answered *atomic.Int32) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		answer, err := client.Get("http://" + at.String() + "/icon.svg")
		if err != nil {
			t.Errorf("request %d: %v", answered.Load(), err)
			return
		}
		answer.Body.Close()
		answered.Add(1)
	}
}

func total(t *testing.T, at netip.AddrPort) int {
	t.Helper()
	answer, err := http.Get("http://" + at.String() + "/services")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	var n int
	if _, err := fmt.Sscanf(string(text), `{"schema":1,"total":%d,`, &n); err != nil {
		t.Fatalf("%v: %.200s", err, text)
	}
	return n
}

// A page whose port another program has comes when that has gone.
func TestPageLater(t *testing.T) {
	at := freeAddress(t)
	other, err := net.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	p := newTestPage(t, at, 4)
	p.open()
	other.Close()
	deadline := time.Now().Add(4 * retry)
	for {
		if conn, err := net.Dial("tcp", at.String()); err == nil {
			conn.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("there is no page")
		}
		time.Sleep(50 * time.Millisecond)
	}
	if n := total(t, at); n != 4 {
		t.Errorf("%d Services", n)
	}
}
