package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/explain"
	"github.com/clusterip/clusterip/plugin/clusterip"
	"github.com/clusterip/clusterip/status"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/coredns/caddy"
	"golang.org/x/sys/unix"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"admin":                              explain.DefaultSocket + " invalid AddrPort",
		"admin /tmp/a.sock":                  "/tmp/a.sock invalid AddrPort",
		"admin :8053":                        explain.DefaultSocket + " 127.0.0.1:8053",
		"admin 192.0.2.1:8053 /a":            "/a 192.0.2.1:8053",
		"admin /a [::1]:8053":                "/a [::1]:8053",
		"admin [::ffff:127.0.0.1]:80":        explain.DefaultSocket + " 127.0.0.1:80",
		"admin a.sock":                       "error: absolute path",
		"admin localhost:8053":               "error: ADDRESS:PORT",
		"admin 127.0.0.1":                    "error: ADDRESS:PORT",
		"admin :0":                           "error: ADDRESS:PORT",
		"admin :80 :81":                      "error: once at most",
		"admin /a /b":                        "error: once at most",
		"admin /" + strings.Repeat("a", 107): "error: longer",
		"admin {\n nothing\n}":               "error: no options",
		"admin\nadmin":                       "error: once",
	} {
		o, err := Parse(caddy.NewTestController("dns", text))
		got := fmt.Sprint(o.Socket, " ", o.Page)
		why, fails := strings.CutPrefix(want, "error: ")
		if fails && (err == nil || !strings.Contains(err.Error(), why)) || !fails && (err != nil || got != want) {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
}

// parts are those of a server with so many Services, of which web is shop's, and no NAT.
func parts(t testing.TB, services int) *explain.Server {
	t.Helper()
	store := cluster.NewStore()
	o, err := clusterip.ParseOptions(caddy.NewTestController("dns", "clusterip cluster.local"), "")
	if err != nil {
		t.Fatal(err)
	}
	names := clusterip.New(o, store, nil)
	web := cluster.New(clustertest.Service("shop/web", "10.43.0.10"), clustertest.Ready("10.42.0.7"))
	u := cluster.Update{Services: clustertest.Changed(web), Synced: true}
	for i := range services - 1 {
		s := clustertest.Service(fmt.Sprintf("ns-%d/service-%d", i%100, i), fmt.Sprintf("10.%d.%d.%d", 44+i>>16, i>>8&255, i&255))
		u.Services = append(u.Services, clustertest.Changed(cluster.New(s, clustertest.Ready("10.42.0.8", "10.42.0.9")))...)
	}
	store.Apply(u)
	server := new(explain.Server)
	*server.Block(0) = explain.Parts{Store: store, Names: names.Explained(), Source: func() status.Source {
		return status.Source{Kind: "apiserver", Place: "the API server", Live: true, Synced: store.HasSynced(), OutOfTouch: services == 1}
	}}
	return server
}

func answering(server *explain.Server) http.Handler { return newAnswers(server).handler(newLane(0)) }

func serve(t *testing.T, s *socket) {
	t.Helper()
	if err := s.open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.remove() })
}

// A client asks over the socket, whose mode lets nobody else in, and an API server that is away
// is told.
func TestAsk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "admin.sock")
	if _, err := explain.Ask(t.Context(), path, explain.Question{Target: "shop/web"}); !errors.Is(err, explain.ErrNoProcess) {
		t.Errorf("without a process: %v", err)
	}
	s := &socket{path: path, handler: answering(parts(t, 1))}
	serve(t, s)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info, err)
	}
	e, err := explain.Ask(t.Context(), path, explain.Question{Target: "web", Namespace: "shop"})
	if err != nil || !e.Works || e.Service == nil || e.Service.Name != "shop/web" {
		t.Errorf("web: %+v, %v", e, err)
	}
	if text, _ := json.Marshal(e.Steps); !strings.Contains(string(text), "the API server is out of reach, so this is what was last known") {
		t.Errorf("the API server is away: %s", text)
	}
	if _, err := explain.Ask(t.Context(), path, explain.Question{Target: "a/b/c"}); !errors.As(err, new(explain.QuestionError)) {
		t.Errorf("no target: %v", err)
	}
	if err := s.remove(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Dir(path) + "/*"); len(left) > 0 {
		t.Errorf("left is %q", left)
	}
}

// A client that hangs does not hold a reload, and one that waits for its answer gets it.
func TestEndsWhatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	asked, answer := make(chan bool), make(chan bool)
	s := &socket{path: path, handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-answer
		fmt.Fprint(w, "an answer")
	})}
	serve(t, s)
	dial := func(text string) net.Conn {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err == nil {
			_, err = c.Write([]byte(text))
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	waits := dial("GET / HTTP/1.0\r\n\r\n")
	<-asked
	silent, half := dial(""), dial("GET /explain?tar")
	clustertest.Eventually(t, 10*time.Second, "the connections", func() error {
		s.clients.mu.Lock()
		defer s.clients.mu.Unlock()
		if n := len(s.clients.answered); n != 3 {
			return fmt.Errorf("there are %d", n)
		}
		return nil
	})
	ended := make(chan error)
	go func() { ended <- s.close() }()
	for _, c := range []net.Conn{silent, half} {
		if _, err := io.ReadAll(c); err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Error(err)
		}
	}
	close(answer)
	if text, err := io.ReadAll(waits); err != nil || !strings.Contains(string(text), "an answer") {
		t.Errorf("the answer that was on its way: %q, %v", text, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A question of any size is refused with a sentence, and the next one is answered.
func TestQuestionSizes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	serve(t, &socket{path: path, handler: answering(parts(t, 1))})
	for _, size := range []int{254, 4 << 10, 64 << 10, 16 << 20} {
		for _, q := range []explain.Question{{Target: strings.Repeat("a", size)}, {Target: "web", Namespace: strings.Repeat("a.", size/2)}, {Target: "shop/web", From: strings.Repeat("1", size)}} {
			if e, err := explain.Ask(t.Context(), path, q); err == nil && e.Works || err != nil && len(err.Error()) > 1000 {
				t.Errorf("%d bytes: %v %.300v", size, e.Works, err)
			}
		}
		if e, err := explain.Ask(t.Context(), path, explain.Question{Target: "shop/web"}); err != nil || !e.Works {
			t.Fatalf("after %d bytes: %v", size, err)
		}
	}
}

// The next server takes the path over before the one before it ends, or gives it back.
func TestTakeOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	old, next := &socket{path: path, handler: answering(parts(t, 1))}, &socket{path: path, handler: answering(parts(t, 2))}
	asked := func(what string, awayTold bool) {
		t.Helper()
		e, err := explain.Ask(t.Context(), path, explain.Question{Target: "shop/web"})
		if err != nil || e.Source.OutOfTouch != awayTold {
			t.Errorf("%s: %+v, %v", what, e.Source, err)
		}
	}
	serve(t, old)
	asked("at the start", true)
	serve(t, next)
	asked("the next", false)
	serve(t, old) // the reload failed
	asked("the first again", true)
	serve(t, next)
	if err := old.remove(); err != nil {
		t.Error(err)
	}
	asked("when the first has ended", false)
}

// Another user who could reach the socket is refused all the same.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	dir, err := os.MkdirTemp("/tmp", "admin") //nolint:usetesting // the other user may not pass the folder of t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "admin.sock")
	serve(t, &socket{path: path, handler: answering(parts(t, 1))})
	ask := func() error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // and never unlock: the thread ends with its user
			if _, _, e := unix.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); e != 0 {
				done <- e
				return
			}
			done <- asThread(path)
		}()
		return <-done
	}
	if err := ask(); !errors.Is(err, unix.EACCES) {
		t.Errorf("another user connects: %v", err)
	}
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := ask(); err == nil || errors.Is(err, unix.EACCES) {
		t.Errorf("another user at a socket of any mode: %v", err)
	}
}

// asThread asks by system calls of this thread alone.
func asThread(path string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte("GET /explain?target=shop/web HTTP/1.1\r\nHost: admin\r\n\r\n")); err != nil {
		return err
	}
	n, err := unix.Read(fd, make([]byte, 100))
	if err == nil && n == 0 {
		err = net.ErrClosed
	}
	return err
}

// An answer takes less than 100 ms at 10,000 Services, also where all names are compared.
func TestQuick(t *testing.T) {
	all := parts(t, 10_000)
	for _, target := range []string{"shop/web", "web.shop", "10.43.0.10:80", "wbe.shop", "10.1.1.1:80", "service-77.ns-78"} {
		least := time.Hour
		for range 5 {
			began := time.Now()
			if _, err := explain.Explain(context.Background(), all.Parts(), explain.Question{Target: target}); err != nil {
				t.Fatal(err)
			}
			least = min(least, time.Since(began))
		}
		t.Logf("%s: %v", target, least)
		if least > 100*time.Millisecond {
			t.Errorf("%s: %v", target, least)
		}
	}
}

// A socket that cannot be made has a mend, and no name that nobody has chosen.
func TestUnmade(t *testing.T) {
	err := (&socket{path: "/proc/admin.sock"}).listen()
	if err == nil || !strings.HasPrefix(err.Error(), "make the socket /proc/admin.sock: ") || !strings.HasSuffix(err.Error(), ": give admin a path that this user may write") || strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("the error is %v", err)
	}
}
