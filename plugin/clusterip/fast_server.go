package clusterip

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster/feed"
	"github.com/clusterip/clusterip/plugin/clusterip/fastpath"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	"github.com/coredns/coredns/plugin/pkg/transport"
	"github.com/miekg/dns"
)

// FastMode says whether there is a fast path.
type FastMode uint8

const (
	// FastAuto has one where plugins in front allow it; the zero value.
	FastAuto FastMode = iota
	// FastOn has one, or the server does not start.
	FastOn
	// FastOff has none.
	FastOff
)

// maxFastThreads is how many threads a fast path has at most, if nobody says how many.
// Each has buffers for its packets.
const maxFastThreads = 16

// fastServers are the fast paths of this process, by the server that they belong to: while
// it reloads there are two. A server is in it from its setup to its end.
type fastServers struct {
	mu    sync.Mutex
	paths map[*feed.Server]map[string]*fastPath // by address
}

// fastPath is that of a server at an address.
type fastPath struct {
	group  *fastpath.Group // nil: there is none, or not yet
	served chan struct{}   // closed when the server serves packets
}

var fast = fastServers{paths: make(map[*feed.Server]map[string]*fastPath)}

// openWith has CoreDNS open the fast path of a server, which starts to serve packets then.
// CoreDNS calls the function of one server block for each server, and passes on the
// decorator that another plugin has asked for.
func (f *fastServers) openWith(config *dnsserver.Config, own *feed.Server, threads int) {
	f.mu.Lock()
	if f.paths[own] == nil {
		f.paths[own] = make(map[string]*fastPath)
	}
	f.mu.Unlock()
	before := config.UDPDecorateWriterFunc
	config.UDPDecorateWriterFunc = func(s *dnsserver.Server) dns.DecorateWriter {
		f.open(s, own, threads)
		f.serves(own, s.Addr)
		if before != nil {
			return before(s)
		}
		return nil
	}
}

// expect notes at which addresses CoreDNS will come to open, if it will, once it has made its servers.
func (f *fastServers) expect(config *dnsserver.Config, own *feed.Server) {
	if config.Transport != transport.DNS {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, host := range config.ListenHosts {
		if at, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, config.Port)); err == nil {
			f.path(own, transport.DNS+"://"+at.String())
		}
	}
}

// path is nil where a server has ended: CoreDNS comes to open in a goroutine of its own.
func (f *fastServers) path(own *feed.Server, address string) *fastPath {
	paths, lives := f.paths[own]
	if lives && paths[address] == nil {
		paths[address] = &fastPath{served: make(chan struct{})}
	}
	return paths[address]
}

// lacks is false where a server has a fast path at an address, which is so for several servers
// with multisocket, and where it has ended.
func (f *fastServers) lacks(own *feed.Server, address string) bool {
	p := f.path(own, address)
	return p != nil && p.group == nil
}

func (f *fastServers) open(s *dnsserver.Server, own *feed.Server, threads int) {
	f.mu.Lock()
	lacks := f.lacks(own, s.Addr)
	f.mu.Unlock()
	if !lacks {
		return
	}
	blocks, off := fastBlocks(s)
	for _, o := range off {
		if o.On {
			log.Error(o)
		} else {
			log.Info(o)
		}
	}
	if !slices.ContainsFunc(blocks, func(b block) bool { return b.lane != nil }) {
		return
	}
	f.start(s, own, fastpath.Options{
		Threads:  cmp.Or(threads, min(runtime.GOMAXPROCS(0), maxFastThreads)),
		Answerer: func() fastpath.Answerer { return &answerer{blocks: blocks} },
		Chain:    chainOf(s),
		Dropped:  fastDropped.Inc,
		Unsent:   func(n int) { fastUnsent.Add(float64(n)) },
	}, true)
}

// serves notes that a server serves packets at an address, with a fast path or without.
func (f *fastServers) serves(own *feed.Server, address string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.path(own, address)
	if p == nil {
		return
	}
	select {
	case <-p.served: // with multisocket, by another server
	default:
		close(p.served)
	}
}

// retryShared is how often it is looked whether another process has left an address.
const retryShared = time.Second

// start opens the fast path, or later if another process is at the address, which tell has
// the log say.
func (f *fastServers) start(s *dnsserver.Server, own *feed.Server, o fastpath.Options, tell bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.lacks(own, s.Addr) {
		return
	}
	address := strings.TrimPrefix(s.Addr, transport.DNS+"://")
	if fastpath.Shared(address) {
		if tell {
			log.Infof("fastpath: waits at %s, where the plugin chain answers: another process has a socket there; it begins when that one has ended", s.Addr)
		}
		time.AfterFunc(retryShared, func() { f.start(s, own, o, false) })
		return
	}
	g, err := fastpath.Open(address, o)
	if err != nil {
		log.Infof("fastpath: off for %s, where the plugin chain answers: %v", s.Addr, err)
		return
	}
	log.Infof("fastpath: on for %s", s.Addr)
	f.path(own, s.Addr).group = g
	fastOn.WithLabelValues(s.Addr).Set(1)
}

// close ends the fast paths of some servers. CoreDNS goes on with what comes.
func (f *fastServers) close(of func(*feed.Server) bool) {
	f.awaitOthers(of)
	var ended []*fastpath.Group
	f.mu.Lock()
	for server, paths := range f.paths {
		if of(server) {
			for _, p := range paths {
				if p.group != nil {
					ended = append(ended, p.group)
				}
			}
			delete(f.paths, server)
		}
	}
	fastOn.Reset()
	for _, paths := range f.paths {
		for address, p := range paths {
			if p.group != nil {
				fastOn.WithLabelValues(address).Set(1)
			}
		}
	}
	f.mu.Unlock()
	for _, g := range ended {
		g.Close()
	}
}

// handover is the longest time that a server's fast path outlives the server, for the next to serve packets: as long as
// CoreDNS waits for queries when it stops a server. A busy machine takes more than a second.
const handover = 5 * time.Second

// awaitOthers waits until the servers that stay serve packets where some servers end: a reload replaces
// these, and the others begin in goroutines of their own. Before they have begun nobody reads CoreDNS's
// socket, which has room for some 250 queries.
func (f *fastServers) awaitOthers(end func(*feed.Server) bool) {
	expired := time.After(handover)
	for _, served := range f.successors(end) {
		select {
		case <-served:
		case <-expired:
			return
		}
	}
}

// successors are those of the fast paths of some servers that end.
func (f *fastServers) successors(end func(*feed.Server) bool) (served []<-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for ending, paths := range f.paths {
		for address, p := range paths {
			if p.group == nil || !end(ending) {
				continue
			}
			for other := range f.paths {
				if next := f.paths[other][address]; next != nil && !end(other) {
					served = append(served, next.served)
				}
			}
		}
	}
	return served
}

// chainOf serves messages as the server does that come over its own socket.
func chainOf(s *dnsserver.Server) func(w dns.ResponseWriter, r *dns.Msg) {
	ctx := context.WithValue(context.Background(), dnsserver.Key{}, s)
	ctx = context.WithValue(ctx, dnsserver.LoopKey{}, 0)
	return func(w dns.ResponseWriter, r *dns.Msg) { s.ServeDNS(ctx, w, r) }
}

// Off is where a server has no fast path that it might have.
type Off struct {
	Where string // the zone of a server block and the address, or the address for all of them
	Why   string // and what mends it
	On    bool   // the Corefile says fastpath on
	Place string // of the option fastpath, or else of clusterip, as file:line; "" where no plugin is known
}

// String is how the log has it.
func (o Off) String() string {
	if o.On {
		return fmt.Sprintf("fastpath on is not possible for %s: %s. Or write fastpath auto", o.Where, o.Why)
	}
	return fmt.Sprintf("fastpath: off for %s, where the plugin chain answers: %s", o.Where, o.Why)
}

// Offs returns where a server will have no fast path once it starts, but for server blocks
// with fastpath off.
func Offs(s *dnsserver.Server) []Off {
	_, off := fastBlocks(s)
	return off
}

// fastBlocks returns the server blocks of a server, the most specific first, and which of
// ours have no lane.
func fastBlocks(s *dnsserver.Server) (blocks []block, off []Off) {
	zones, err := zonesOf(s)
	if err != nil {
		return nil, []Off{{Where: s.Addr, Why: err.Error()}}
	}
	forAll := ownSocket(zones)
	for origin, configs := range zones {
		b := block{zone: origin}
		for _, config := range configs {
			h, ours := config.Handler(pluginName).(*Handler)
			if !ours || h.options.Fast == FastOff {
				continue
			}
			where := fmt.Sprintf("%s at %s", origin, s.Addr)
			lane, why := newLane(h, config)
			switch {
			case forAll != "":
				where, why = s.Addr, forAll
			case why == "" && len(configs) > 1:
				why = "several server blocks have this zone: make them one"
			case why == "":
				lane.countAt(s.Addr)
				b.lane = lane
				continue
			}
			off = append(off, Off{where, why, h.options.Fast == FastOn, h.options.Place("fastpath")})
		}
		blocks = append(blocks, b)
	}
	slices.SortFunc(blocks, func(a, b block) int { return cmp.Compare(len(b.zone), len(a.zone)) })
	slices.SortFunc(off, func(a, b Off) int { return strings.Compare(a.String(), b.String()) })
	return blocks, slices.Compact(off)
}

// ownSocket says what needs the queries as the server's own socket gives them, in any
// server block of a server, or "": a fast path has the queries of all.
func ownSocket(zones map[string][]*dnsserver.Config) (why string) {
	for origin, configs := range zones {
		for _, config := range configs {
			switch {
			case config.ProxyProtoConnPolicy != nil:
				return fmt.Sprintf("the plugin proxyproto of the server block of %s changes what a packet is: give that block an address of its own", origin)
			case config.Handler("tsig") != nil:
				return fmt.Sprintf("the plugin tsig of the server block of %s needs signatures checked: give that block an address of its own", origin)
			case config.Handler("dynupdate") != nil:
				return fmt.Sprintf("the plugin dynupdate of the server block of %s takes more than queries: give that block an address of its own", origin)
			}
		}
	}
	return ""
}

// zonesOf returns the server blocks of a dnsserver.Server by zone, which CoreDNS keeps to
// itself. It is an error if they are not where they were when this was written.
func zonesOf(server any) (map[string][]*dnsserver.Config, error) {
	field := reflect.ValueOf(server).Elem().FieldByName("zones")
	if !field.IsValid() || field.Type() != reflect.TypeFor[map[string][]*dnsserver.Config]() {
		return nil, fmt.Errorf("CoreDNS %s does not show the server blocks at this address: build with the version that go.mod names", coremain.CoreVersion)
	}
	zones := make(map[string][]*dnsserver.Config)
	for each := field.MapRange(); each.Next(); {
		for i := range each.Value().Len() {
			config := (*dnsserver.Config)(each.Value().Index(i).UnsafePointer())
			zones[each.Key().String()] = append(zones[each.Key().String()], config)
		}
	}
	return zones, nil
}
