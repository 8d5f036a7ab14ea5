// Package admin is the CoreDNS directive that answers questions of this machine's operators:
// over a Unix socket, where `coredns explain` asks, and on a page over HTTP. It knows neither of
// the other directives. What it tells it has from package explain, where they have left what can
// be asked of them. Nothing can be changed through it.
//
// handler.go has the answers, socket.go and listener.go where they are given. page.go and guard.go
// say what a page may take; the folder page is what browsers are sent.
package admin

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/clusterip/clusterip/explain"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	clog "github.com/coredns/coredns/plugin/pkg/log"
)

const name = "admin"

var log = clog.NewWithPlugin(name)

func init() { plugin.Register(name, setup) }

// onePerServer is the key under which the server's storage notes that it has an admin.
type onePerServer struct{}

func setup(c *caddy.Controller) error {
	o, err := Parse(c)
	if err != nil {
		return plugin.Error(name, err)
	}
	if c.Get(onePerServer{}) != nil {
		return plugin.Error(name, c.Err("admin is in two server blocks: keep one, it answers for all"))
	}
	c.Set(onePerServer{}, true)
	a := newAnswers(explain.ServerOf(c))
	s := &socket{path: o.Socket, place: o.Place, handler: a.handler(newLane(0))}
	// On a reload the next server takes the path over before this one ends, or it fails and
	// this one takes it back. That its server block serves comes before all that.
	c.OnStartup(s.open)
	c.OnRestartFailed(s.open)
	c.OnShutdown(s.close)
	c.OnFinalShutdown(s.remove)
	p := newPage(o.Page, a)
	c.OnStartup(p.open)
	c.OnRestartFailed(p.resume)
	c.OnShutdown(p.close)
	return nil
}

// Options are where admin answers.
type Options struct {
	Place  string         // of the directive: FILE:LINE
	Socket string         // the path of a Unix socket
	Page   netip.AddrPort // the zero value: there is no page
}

// Parse reads the directive that the controller stands on: admin [SOCKET] [[ADDRESS]:PORT].
func Parse(c *caddy.Controller) (o Options, err error) {
	for directives := 0; c.Next(); directives++ {
		if directives > 0 {
			return o, plugin.ErrOnce
		}
		o.Place = fmt.Sprintf("%s:%d", c.File(), c.Line())
		for _, arg := range c.RemainingArgs() {
			switch page, isPage := parsePage(arg); {
			case filepath.IsAbs(arg) && o.Socket == "":
				o.Socket = arg
			case isPage && !o.Page.IsValid():
				o.Page = page
			default:
				return o, c.Errf("%q: admin takes the absolute path of its socket, such as %s, and where its page is to be, as ADDRESS:PORT or as :PORT of loopback, each once at most", arg, explain.DefaultSocket)
			}
		}
		if len(o.Socket) > maxPath {
			return o, c.Errf("the path %s is longer than that of a socket may be, %d characters", o.Socket, maxPath)
		}
		if c.NextBlock() {
			return o, c.Errf("admin has no options: it has %q", c.Val())
		}
	}
	o.Socket = cmp.Or(o.Socket, explain.DefaultSocket)
	return o, nil
}

// parsePage reads ADDRESS:PORT. Without an address it is that of loopback: what is to be seen
// from elsewhere is to be said.
func parsePage(text string) (netip.AddrPort, bool) {
	if strings.HasPrefix(text, ":") {
		text = "127.0.0.1" + text
	}
	at, err := netip.ParseAddrPort(text)
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), err == nil && at.Port() > 0
}

// maxPath leaves room for the suffix of a new socket (unix(7): 107).
const maxPath = 95
