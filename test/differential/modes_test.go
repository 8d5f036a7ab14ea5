package differential

import (
	"net/netip"
	"os/exec"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	corev1 "k8s.io/api/core/v1"
)

// Services with a frontend of each kind, one without endpoints. Of the clients outside,
// their load balancers let in others than the one that asks.
var (
	exposed  = exposedService("exposed", "10.43.200.1", "198.51.100.201")
	deserted = exposedService("deserted", "10.43.200.2", "198.51.100.202")
)

func exposedService(name, clusterIP, loadBalancer string) corev1.Service {
	s := corev1.Service{Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, ClusterIP: clusterIP, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
		Ports: []corev1.ServicePort{port("", "TCP", 80, 5678)}, LoadBalancerSourceRanges: []string{"192.0.2.64/26"},
	}}
	s.Namespace, s.Name = namespace, name
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: loadBalancer, IPMode: new(corev1.LoadBalancerIPModeVIP)}}
	return s
}

// addExposed adds those two.
func (o *objects) addExposed() {
	o.services = append(o.services, exposed, deserted)
	o.slices = append(o.slices, endpointSlice(&exposed, 0, corev1.IPv4Protocol, conditions{"local-0": ready}))
}

// fatesOfOne are the fates of one packet, by the mode: kube-proxy's and ours.
type fatesOfOne struct{ iptables, nftables, ipvs [2]string }

func (f fatesOfOne) of(p party) string {
	fates := f.iptables
	switch p.mode {
	case "nftables":
		fates = f.nftables
	case ipvs:
		fates = f.ipvs
	}
	if p.who == "ours" {
		return fates[1]
	}
	return fates[0]
}

// modeDifference is a packet that fares differently in the modes of kube-proxy. Where ours
// differs from it there is a reason, as docs/nat.md has it.
type modeDifference struct {
	what, from string
	to         func(nodePort uint16) netip.AddrPort
	setUp      []string // a command on the node before that
	fates      fatesOfOne
	reasons    []string // of iptables and nftables
	ipvs       string   // the reason of ipvs, in its chapter
}

func at(address string) func(uint16) netip.AddrPort {
	return func(uint16) netip.AddrPort { return netip.MustParseAddrPort(address) }
}

func nodePortAt(address netip.Addr) func(uint16) netip.AddrPort {
	return func(port uint16) netip.AddrPort { return netip.AddrPortFrom(address, port) }
}

const (
	allAddresses = "NodePorts are at all addresses of the node, 127.0.0.1 included, as with `iptables`;"
	unallocated  = "Addresses in a range of ClusterIPs that no Service has are refused; there they are dropped."
	notLetIn     = "A client that `loadBalancerSourceRanges` does not let in is refused if the Service has no endpoints."
)

// The reasons of ipvs.
const (
	atLoopback = "NodePorts are at 127.0.0.1 too."
	inRange    = "Addresses in a range of ClusterIPs that no Service has are refused. There they leave the node."
	forwards   = "Packets pass the hook forward, as with the other modes: where the policy of FORWARD is DROP somebody has to let them through."
)

// modeDifferences are in an order: the last changes the node.
var modeDifferences = []modeDifference{
	{
		what: "a NodePort at 127.0.0.1", from: "node", to: nodePortAt(netip.MustParseAddr("127.0.0.1")),
		fates:   fatesOfOne{iptables: [2]string{"answered", "answered"}, nftables: [2]string{"refused", "answered"}, ipvs: [2]string{"refused", "answered"}},
		reasons: []string{allAddresses},
		ipvs:    atLoopback,
	},
	{
		what: "a NodePort at an address that is not the Node's primary one", from: "client", to: nodePortAt(netlab.GatewayIPv4.Addr()),
		fates:   fatesOfOne{iptables: [2]string{"answered", "answered"}, nftables: [2]string{"refused", "answered"}, ipvs: [2]string{"answered", "answered"}},
		reasons: []string{allAddresses},
	},
	{
		what: "a port that a ClusterIP does not have", from: "client", to: at(exposed.Spec.ClusterIP + ":81"),
		fates:   fatesOfOne{iptables: [2]string{"dropped", "refused"}, nftables: [2]string{"refused", "refused"}, ipvs: [2]string{"refused", "refused"}},
		reasons: []string{refused},
	},
	{
		what: "a ClusterIP that nobody has", from: "client", to: at("10.43.200.3:80"),
		fates:   fatesOfOne{iptables: [2]string{"dropped", "refused"}, nftables: [2]string{"dropped", "refused"}, ipvs: [2]string{"dropped", "refused"}},
		reasons: []string{refused, unallocated},
		ipvs:    inRange,
	},
	{
		what: "a load balancer that lets others in, without endpoints", from: "outside", to: at(deserted.Status.LoadBalancer.Ingress[0].IP + ":80"),
		fates:   fatesOfOne{iptables: [2]string{"refused", "refused"}, nftables: [2]string{"dropped", "refused"}, ipvs: [2]string{"dropped", "refused"}},
		reasons: []string{notLetIn},
		ipvs:    notLetIn,
	},
	{
		what: "a NodePort of a node that forwards nothing", from: "outside", to: nodePortAt(netlab.NodeIPv4.Addr()),
		setUp: []string{"iptables", "-P", "FORWARD", "DROP"},
		fates: fatesOfOne{iptables: [2]string{"answered", "answered"}, nftables: [2]string{"dropped", "dropped"}, ipvs: [2]string{"answered", "dropped"}},
		ipvs:  forwards,
	},
}

// checkDifferences asks what fares differently by the mode.
func (n *node) checkDifferences(p party, given *objects) {
	n.t.Helper()
	var nodePort uint16
	for _, s := range given.services {
		if s.Name == exposed.Name {
			nodePort = uint16(s.Spec.Ports[0].NodePort)
		}
	}
	clients := n.clients()
	for _, d := range modeDifferences {
		if d.setUp != nil {
			n.must(n.Do(exec.Command(d.setUp[0], d.setUp[1:]...).Run))
		}
		got, _ := n.try(clients[d.from], flow{network: "tcp", to: d.to(nodePort)})
		got = kindOf(got)
		if want := d.fates.of(p); got != want {
			n.t.Errorf("%s: %s is %s, want %s", p, d.what, got, want)
		}
	}
}
