package differential

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

const (
	// answerTime is after how long without an answer a packet counts as dropped.
	// A TCP client sends again after a second; only then is it told when it is
	// refused over IPv6 and not reset.
	answerTime = 2500 * time.Millisecond
	// emulatedAnswerTime is answerTime in an emulated machine, whose processors are slow and shared.
	emulatedAnswerTime = 4 * answerTime
	// tries are made for each pod that might answer. One of k pods is missed
	// by k times as many with a chance of less than k / e^tries.
	tries = 20
	// turns are made for each pod where pods answer in turn, to one client at a time.
	turns = 2
	// askers ask at the same time on each node. Mostly they wait.
	askers = 16
)

// flow is what a client asks for.
type flow struct {
	from    string
	network string
	to      netip.AddrPort
	service *corev1.Service
	pods    int // how many may answer
}

// external reports whether it goes to an external address or one of a load balancer.
func (f flow) external() bool {
	to := f.to.Addr()
	return !slices.Contains(f.service.Spec.ClusterIPs, to.String()) && to != netlab.NodeIPv4.Addr() && to != netlab.NodeIPv6.Addr()
}

func (f flow) String() string {
	return fmt.Sprintf("%s: %s asks %s %s", f.service.Name, f.from, f.network, f.to)
}

// client is a host that asks.
type client struct {
	*netlab.Host
	patience time.Duration // after which a packet counts as dropped
	sctp     sync.Mutex
}

func (c *client) ask(ctx context.Context, f flow) (netlab.Reply, error) {
	ask := c.Ask
	if f.network == "sctp" {
		// A raw socket is told of the errors of all others to its address.
		c.sctp.Lock()
		defer c.sctp.Unlock()
		ask = c.askSCTP
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	return ask(ctx, f.network, f.to)
}

// party is one of those that are compared: kube-proxy in a mode, or ours with a backend.
type party struct{ who, mode string }

func (s party) String() string { return s.who + " " + s.mode }

// comparison is what becomes of flows with some parties.
type comparison struct {
	given objects
	nodes map[party]*node
	flows []flow
	fates map[party]map[string][]string
}

// compare has parties be given the same objects, each on a node of its own.
func compare(t *testing.T, parties ...party) *comparison {
	t.Helper()
	control := kubetest.Start(t)
	given := generate(seed, served)
	if parties[0].mode == ipvs {
		given = generate(fewSeed, few)
	}
	given.addExposed()
	given.create(t, control, 1)
	given = list(t, control)

	c := &comparison{given: given, nodes: make(map[party]*node), flows: given.flows(), fates: make(map[party]map[string][]string)}
	manifests := given.manifests(t)
	for _, p := range parties {
		start, n := time.Now(), newNode(t)
		n.inTurn = p.mode == ipvs // the scheduler rr is what both have there
		c.nodes[p] = n
		if p.who == "ours" {
			n.startOurs(p.mode, manifests)
		} else {
			control.StartProxy(n.Node, p.mode, firstSync)
		}
		t.Logf("%s: its rules are written after %v", p, time.Since(start).Round(time.Second))
	}
	// How that one fares is among the known differences.
	c.flows = slices.DeleteFunc(c.flows, func(f flow) bool { return f.service.Name == deserted.Name })
	c.ask()
	return c
}

// ask finds out what becomes of the flows.
func (c *comparison) ask() {
	var mu sync.Mutex
	var asking sync.WaitGroup
	for p, n := range c.nodes {
		asking.Go(func() {
			start, got := time.Now(), n.fates(c.flows)
			n.t.Logf("%s: %d flows in %v", p, len(c.flows), time.Since(start).Round(time.Second))
			mu.Lock()
			defer mu.Unlock()
			c.fates[p] = got
		})
	}
	asking.Wait()
}

// The same packets meet the same fate on all nodes, whoever sends them and however
// they are translated.
func TestPackets(t *testing.T) {
	require(t)
	var parties []party
	for _, mode := range modes {
		parties = append(parties, party{"kube-proxy", mode}, party{"ours", mode})
	}
	c := compare(t, parties...)
	for _, mode := range modes {
		ours := party{"ours", mode}
		checkVariety(t, c.fates[ours])
		theirs := party{"kube-proxy", mode}
		// It is among the known differences, where a Service without endpoints has source ranges.
		known := func(f flow) bool {
			return mode == "nftables" && len(f.service.Spec.LoadBalancerSourceRanges) > 0 && f.external() &&
				slices.Equal(c.fates[theirs][f.String()], []string{"dropped"}) && slices.Equal(c.fates[ours][f.String()], []string{"refused"})
		}
		sameFates(t, c.fates, theirs, ours, slices.DeleteFunc(slices.Clone(c.flows), known))
	}
	// The modes of kube-proxy differ here, and ours with them: what the node itself sends
	// to addresses outside the cluster is refused by nftables alone.
	alike := slices.DeleteFunc(slices.Clone(c.flows), func(f flow) bool { return f.from == "node" && f.external() })
	sameFates(t, c.fates, party{"ours", "iptables"}, party{"ours", "nftables"}, alike)
	for p, n := range c.nodes {
		n.checkDifferences(p, &c.given)
	}
}

// sameFates fails the test unless two parties have the same in store for some flows.
func sameFates(t *testing.T, fates map[party]map[string][]string, a, b party, of []flow) {
	t.Helper()
	some := func(all map[string][]string) map[string][]string {
		out := make(map[string][]string)
		for _, f := range of {
			out[f.String()] = all[f.String()]
		}
		return out
	}
	if diff := cmp.Diff(some(fates[a]), some(fates[b])); diff != "" {
		t.Errorf("%s (-), %s (+):\n%s", a, b, diff)
	}
}

// checkVariety fails the test if not every kind of fate was met.
func checkVariety(t *testing.T, fates map[string][]string) {
	t.Helper()
	met := make(map[string]int)
	for _, fate := range fates {
		for _, what := range fate {
			met[kindOf(what)]++
		}
	}
	t.Logf("%d flows: %v", len(fates), met)
	for _, what := range []string{"answered", "refused", "dropped"} {
		if met[what] == 0 {
			t.Errorf("no flow was %s", what)
		}
	}
}

// kindOf is what is alike in fates: "answered", "refused" and so on.
func kindOf(what string) string {
	for _, answered := range []string{" sees ", "pods answer", "which see "} {
		if strings.Contains(what, answered) {
			return "answered"
		}
	}
	return what
}

// flows lists who asks for what: every frontend of every Service, from a pod, a
// pod that may be the endpoint, the node and the outside.
func (o *objects) flows() []flow {
	var out []flow
	for i := range o.services {
		s := &o.services[i]
		if s.Namespace != namespace {
			continue
		}
		for _, p := range s.Spec.Ports {
			network := strings.ToLower(string(p.Protocol))
			for _, to := range frontends(s, p) {
				for _, from := range []string{"client", "local-0", "node", "outside"} {
					out = append(out, flow{from: from, network: network, to: to, service: s, pods: o.backends(s)})
				}
			}
		}
	}
	return out
}

// frontends are the addresses by which a port of a Service may be reached.
func frontends(s *corev1.Service, p corev1.ServicePort) []netip.AddrPort {
	var out []netip.AddrPort
	texts := slices.Concat(s.Spec.ClusterIPs, s.Spec.ExternalIPs)
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		texts = append(texts, ingress.IP)
	}
	for _, text := range texts {
		out = append(out, netip.AddrPortFrom(netip.MustParseAddr(text), uint16(p.Port)))
	}
	if p.NodePort == 0 {
		return out
	}
	for _, family := range s.Spec.IPFamilies {
		out = append(out, netip.AddrPortFrom(nodeAddr(family), uint16(p.NodePort)))
	}
	return out
}

func nodeAddr(family corev1.IPFamily) netip.Addr {
	if family == corev1.IPv6Protocol {
		return netlab.NodeIPv6.Addr()
	}
	return netlab.NodeIPv4.Addr()
}

// backends counts the pods that a Service's slices name.
func (o *objects) backends(s *corev1.Service) int {
	names := make(map[string]bool)
	for _, slice := range o.slices {
		if slice.Namespace == s.Namespace && slice.Labels["kubernetes.io/service-name"] == s.Name {
			for _, e := range slice.Endpoints {
				names[e.Addresses[0]] = true
			}
		}
	}
	return len(names) / len(s.Spec.IPFamilies)
}

// fates asks for all the flows. Those of one client to one Service come one after
// the other: two that meet may each be given a pod of its own before sessionAffinity
// has one noted. Where pods answer in turn, those of all clients do.
func (n *node) fates(flows []flow) map[string][]string {
	clients := n.clients()
	groups := make(map[[2]string][]flow)
	for _, f := range flows {
		key := [2]string{f.from, f.service.Name}
		if n.inTurn {
			key[0] = ""
		}
		groups[key] = append(groups[key], f)
	}
	todo := make(chan []flow)
	var mu sync.Mutex
	out := make(map[string][]string)
	var asking sync.WaitGroup
	for range askers {
		asking.Go(func() {
			for group := range todo {
				for _, f := range group {
					fate := n.fate(clients[f.from], f)
					mu.Lock()
					out[f.String()] = fate
					mu.Unlock()
				}
			}
		})
	}
	for _, group := range groups {
		todo <- group
	}
	close(todo)
	asking.Wait()
	return out
}

// clients are those who ask.
func (n *node) clients() map[string]*client {
	out := make(map[string]*client)
	for name, host := range map[string]*netlab.Host{"client": n.client, "local-0": n.pods["local-0"], "node": n.Host, "outside": n.Outside} {
		out[name] = &client{Host: host, patience: answerTime}
		if n.inTurn {
			out[name].patience = emulatedAnswerTime
		}
	}
	return out
}

// fate returns all that may become of a flow: which pods answer and as whom they
// see the client, or that it is refused or dropped. What refuses or drops does it
// always, and ends the asking.
func (n *node) fate(from *client, f flow) []string {
	tries := tries
	if n.inTurn {
		tries = turns
	}
	seen, answers := make(map[string]bool), true
	for range tries * max(1, f.pods) {
		what, answered := n.try(from, f)
		seen[what] = true
		if answers = answered; !answers {
			break
		}
	}
	if answers && f.service.Spec.SessionAffinity == corev1.ServiceAffinityClientIP {
		return []string{fmt.Sprintf("%d pods answer", len(seen)), f.seenAs(seen)}
	}
	return slices.Sorted(maps.Keys(seen))
}

// seenAs says as whom a client is seen that stays with its pod. Which one it is given is chance, and
// a pod that is given itself is not seen as one that is given another.
func (f flow) seenAs(seen map[string]bool) string {
	as := make(map[string]bool)
	for what := range seen {
		_, who, _ := strings.Cut(what, " sees ")
		as[who] = true
	}
	if f.from == "local-0" {
		return "which see somebody"
	}
	return "which see " + strings.Join(slices.Sorted(maps.Keys(as)), ", ")
}

func (n *node) try(from *client, f flow) (what string, answered bool) {
	reply, err := from.ask(n.t.Context(), f)
	var timeout net.Error
	switch {
	case err == nil:
		return fmt.Sprintf("%s sees %s", reply.Host, n.nameOf(reply.Client.Addr())), true
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused", false
	case errors.Is(err, syscall.EPERM):
		return "not permitted", false // what a sender on the node itself is told of both
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, net.ErrClosed):
		return "dropped", false
	}
	return err.Error(), false
}

// nameOf says whose address a pod sees. The node has several and may use any.
func (n *node) nameOf(a netip.Addr) string {
	if slices.Contains(n.Addrs, a) {
		return "the node at " + a.String()
	}
	for _, h := range append(slices.Collect(maps.Values(n.pods)), n.client, n.Outside) {
		if h.Addr(cluster.FamilyOf(a)) == a {
			return h.Name
		}
	}
	return a.String()
}
