package explain

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/status"
)

// Catalogue lists the Services of a server, and knows with which of them something is wrong.
// It judges a Service again when that, or what NAT has told, is another than before. So asking twice costs
// what has changed. It takes no lock that a query waits for, and after a while in which nobody
// has asked it forgets all.
type Catalogue struct {
	parts []*Parts

	mu     sync.Mutex
	judged map[*Parts]*judged
	forget *time.Timer
}

// NewCatalogue returns that of the parts of a server's blocks.
func NewCatalogue(parts []*Parts) *Catalogue {
	return &Catalogue{parts: parts, judged: make(map[*Parts]*judged)}
}

// remember is for how long what is known is kept: a page asks every few seconds.
const remember = time.Minute

// PageSize is how many Services a page of a List has.
const PageSize = 100

// Search is what is asked of a Catalogue.
type Search struct {
	// Text is a part of the Service's namespace/name, or one of its addresses or an endpoint's; "" is all.
	Text  string
	Wrong bool // only those that something is wrong with
	Page  int  // from 1; one that there is not is the nearest that there is
}

// List returns a page of the Services that are looked for. Server blocks that serve the same
// Services are one.
func (c *Catalogue) List(ctx context.Context, q Search) status.List {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.forgetLater()
	type found struct {
		*judged
		*entry
	}
	out := status.List{Schema: status.Schema, Rows: []status.Row{}}
	var all []found
	matches := matcher(q.Text)
	for _, p := range c.blocks() {
		j := c.refresh(ctx, p)
		out.Total, out.Wrong = out.Total+len(j.sorted), out.Wrong+j.wrong
		for _, e := range j.sorted {
			if (e.wrong || !q.Wrong) && matches(e.service) {
				all = append(all, found{j, e})
			}
		}
	}
	out.Matching = len(all)
	out.Pages = max(1, (len(all)+PageSize-1)/PageSize)
	out.Page = min(max(q.Page, 1), out.Pages)
	first := (out.Page - 1) * PageSize
	for _, f := range all[first:min(first+PageSize, len(all))] {
		out.Rows = append(out.Rows, f.row(f.service))
	}
	return out
}

// counts returns how many frontends the Services of a block have, and with how many something
// is wrong.
func (c *Catalogue) counts(ctx context.Context, p *Parts) (frontends, wrong int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.forgetLater()
	j := c.refresh(ctx, p)
	return j.frontends, j.wrong
}

// forgetLater is called when somebody has asked.
func (c *Catalogue) forgetLater() {
	if c.forget == nil {
		c.forget = time.AfterFunc(remember, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			clear(c.judged)
		})
	}
	c.forget.Reset(remember)
}

// blocks returns one for each Store, with NAT if there is one.
func (c *Catalogue) blocks() (out []*Parts) {
	for _, p := range c.parts {
		at := slices.IndexFunc(out, func(o *Parts) bool { return o.Store == p.Store })
		switch {
		case at < 0:
			out = append(out, p)
		case out[at].NAT == nil:
			out[at] = p
		}
	}
	return out
}

// matcher returns what tells the Services that a text is for.
func matcher(text string) func(*cluster.Service) bool {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" {
		return func(*cluster.Service) bool { return true }
	}
	if addr, err := netip.ParseAddr(text); err == nil {
		target := status.Target{At: netip.AddrPortFrom(addr.Unmap().WithZone(""), 0)}
		return func(s *cluster.Service) bool { return len(status.Holders(target, []*cluster.Service{s}, false)) > 0 }
	}
	namespace, name, both := strings.Cut(text, "/")
	return func(s *cluster.Service) bool {
		if both {
			return strings.HasSuffix(s.Name.Namespace, namespace) && strings.HasPrefix(s.Name.Name, name)
		}
		return strings.Contains(s.Name.Name, text) || strings.Contains(s.Name.Namespace, text)
	}
}
