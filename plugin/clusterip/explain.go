package clusterip

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/feed"
	"github.com/clusterip/clusterip/explain"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/clusterip/clusterip/status"
	"github.com/miekg/dns"
)

// Explained answers what `coredns explain` asks about names. It looks them up as queries do,
// and counts none.
type Explained struct{ handler *Handler }

// Explained returns what can be asked about the Handler's names.
func (h *Handler) Explained() Explained { return Explained{h} }

// parts are what can be asked of the Handler's server block about its names.
func (h *Handler) parts(s *feed.Subscription) explain.Parts {
	kind, place := h.options.SourceKind(), h.options.SourcePlace()
	return explain.Parts{Store: h.store, Names: h.Explained(), Source: func() status.Source {
		return status.Source{
			Kind: kind, Place: place, Process: os.Getpid(), Live: true,
			Synced: h.store.HasSynced(), OutOfTouch: s.Stale(outOfTouch),
		}
	}, Told: func() status.Told {
		return status.Told{Heard: s.Heard(), Faults: errorsOf(s.Problems())}
	}, Hints: func(n cluster.ServiceName) []status.Hint {
		return HintsOf(s.Problems(), n)
	}, Faults: func() []status.Fault {
		return FaultsOf(s.Problems(), h.options.Manifest.StateFile())
	}, Answers: answersTotal}
}

// outOfTouch is for how long a source is cut off from what it follows when that is told.
const outOfTouch = 30 * time.Second

// SourceKind is that of a status.Source.
func (o *Options) SourceKind() string {
	if o.Manifest.Dir == "" {
		return "apiserver"
	}
	return status.FromManifests
}

// SourcePlace is that of a status.Source: a folder with its whole path, since who asks may be
// in another than the process.
func (o *Options) SourcePlace() string {
	if dir, err := filepath.Abs(o.Manifest.Dir); err == nil && o.Manifest.Dir != "" {
		return "the folder " + dir
	}
	return o.Origin().String()
}

// DNS returns how names are answered.
func (e Explained) DNS() status.DNS {
	o := &e.handler.options
	d := status.DNS{Namespaces: o.Namespaces, IgnoreEmpty: o.IgnoreEmpty, Serial: e.handler.serial()}
	for _, z := range o.Zones {
		if !zone.IsReverse(z) && !slices.Contains(o.Multicluster, z) {
			d.Zones = append(d.Zones, z)
		}
	}
	return d
}

// explainedTypes are those of the records that are shown.
var explainedTypes = []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeSRV, dns.TypePTR, dns.TypeTXT}

// Look returns the records at a name. What another server answers is not asked for.
func (e Explained) Look(name string) status.Name {
	out := status.Name{Name: name, Outcome: status.Elsewhere}
	z := e.handler.index.Match(name)
	if z == nil {
		return out
	}
	out.Outcome = status.NXDomain
	seen := make(map[status.Record]bool)
	for _, qtype := range explainedTypes {
		answer := z.Lookup(name, qtype, e.handler.serial())
		switch {
		case answer.Outcome == zone.Success:
			out.Outcome = status.Found
		case answer.Outcome == zone.NoData && out.Outcome == status.NXDomain:
			out.Outcome = status.NoData
		}
		for _, rr := range answer.Answer {
			if r := recordOf(rr); !seen[r] {
				seen[r] = true
				out.Records = append(out.Records, r)
			}
		}
	}
	if out.Outcome == status.NXDomain && e.handler.through(name) {
		out.Outcome = status.Elsewhere
	}
	return out
}

func recordOf(rr dns.RR) status.Record {
	h := rr.Header()
	return status.Record{Type: dns.TypeToString[h.Rrtype], TTL: h.Ttl, Data: strings.TrimPrefix(rr.String(), h.String())}
}
