// Package admin is the CoreDNS directive that answers questions of this machine's operators
// over a Unix socket: `coredns explain` asks there. It knows neither of the other directives.
// What it tells it has from package explain, where they have left what can be asked of them.
package admin

import (
	"path/filepath"

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
	path, err := Parse(c)
	if err != nil {
		return plugin.Error(name, err)
	}
	if c.Get(onePerServer{}) != nil {
		return plugin.Error(name, c.Err("admin is in two server blocks: keep one, it answers for all"))
	}
	c.Set(onePerServer{}, true)
	s := &socket{path: path, handler: handler(explain.ServerOf(c))}
	// On a reload the next server takes the path over before this one ends, or it fails and
	// this one takes it back. That its server block serves comes before all that.
	c.OnStartup(s.open)
	c.OnRestartFailed(s.open)
	c.OnShutdown(s.close)
	c.OnFinalShutdown(s.remove)
	return nil
}

// Parse reads the directive that the controller stands on, and returns the path of the socket.
func Parse(c *caddy.Controller) (string, error) {
	path := explain.DefaultSocket
	for directives := 0; c.Next(); directives++ {
		if directives > 0 {
			return "", plugin.ErrOnce
		}
		switch args := c.RemainingArgs(); {
		case len(args) == 1 && filepath.IsAbs(args[0]):
			path = args[0]
		case len(args) > 0:
			return "", c.Errf("admin takes one argument at most, the absolute path of its socket, such as %s; it has %q", explain.DefaultSocket, args)
		}
		if len(path) > maxPath {
			return "", c.Errf("the path %s is longer than that of a socket may be, %d characters", path, maxPath)
		}
		if c.NextBlock() {
			return "", c.Errf("admin has no options: it has %q", c.Val())
		}
	}
	return path, nil
}

// maxPath leaves room for the suffix of a new socket (unix(7): 107).
const maxPath = 95
