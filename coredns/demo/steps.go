package demo

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// script is the walk-through.
var script = []scene{
	{"Apply the manifests", apply},
	{"The Service has a name and a stable address", names},
	{"The node's kernel translates the address", rules},
	{"The kernel picks a pod at random", chain},
	{"Connections are balanced", balance},
	{"An edit does not change the address", edit},
	{"A headless Service: the name has all pods' addresses", headless},
	{"The pods of a StatefulSet have names", statefulSet},
	{"Scale the Deployment from 3 to 5: the name follows", scaleUp},
	{"Back to a ClusterIP: the shares followed", backToClusterIP},
	{"Scale the Deployment from 5 to 2", scaleDown},
	{"Rules of another kind: the backend that this kernel can have", backendAuto},
	{"Does it work, and why", explained},
}

const (
	serviceName  = "echo-server-clusterip"
	fullName     = serviceName + ".testing.svc.cluster.local"
	serviceChain = "KUBE-SVC-EF6QQNEDGUCXH6TD" // of testing/echo-server-clusterip, tcp
	listRules    = "iptables -t nat -L KUBE-SERVICES -n | grep " + serviceName
	listChain    = "iptables -t nat -L " + serviceChain + " -n --line-numbers"
)

var serviceCIDR = netip.MustParsePrefix("10.43.0.0/16")

func apply(p *play) {
	p.do(onNode, "cp examples/deployment.yaml examples/service.yaml examples/statefulset.yaml manifests/")
	p.act(func() error {
		p.screen.note("(The demo plays the controllers and the kubelet: it starts the pods and writes their manifests.)")
		err := p.stage.scale(3)
		for _, pod := range dbPods {
			err = errors.Join(err, p.stage.startPod(pod))
		}
		return err
	})
	p.show(onNode, "grep -H podIP: manifests/pod-*", "three pods of the Deployment, two of the StatefulSet", linesWith("podIP", 5))
}

func names(p *play) {
	p.show(inClient, "host "+serviceName, "the short name, in the same namespace, has one address in "+serviceCIDR.String(),
		func(out string) error {
			addrs, err := addresses(out, fullName)
			if err != nil {
				return err
			}
			if len(addrs) != 1 || !serviceCIDR.Contains(addrs[0]) {
				return fmt.Errorf("the addresses are %v", addrs)
			}
			p.clusterIP = addrs[0]
			return nil
		})
	p.show(inClient, "host "+fullName, "the full name has the same", resolvesTo(fullName, p.clusterIP))
	p.show(inClient, "host "+p.clusterIP.String(), "and the address has the name", contains("domain name pointer "+fullName+"."))
}

func rules(p *play) {
	p.show(onNode, "iptables -t nat -L -n | grep KUBE-SVC", "the Service's line, with the notes' chain name", p.serviceRule(8080))
}

func chain(p *play) {
	p.show(onNode, listChain, "the notes' lines: 33 % for pod 1, 50 % of the rest for pod 2, what is left for pod 3", p.chainOfNotes)
}

func balance(p *play) {
	pods := echoPods[:3]
	p.show(inClient, "curl -sS http://echo-server-clusterip:8080", "one of the pods says hello", helloFrom(pods))
	p.connect(300, pods)
}

func edit(p *play) {
	p.do(onNode, "sed -i 's/port: 8080/port: 9090/' manifests/service.yaml")
	p.show(onNode, listRules, "the edit has arrived, on the same address", p.serviceRule(9090))
	p.show(inClient, "host "+serviceName, "the name has still the same address", resolvesTo(fullName, p.clusterIP))
	p.do(onNode, "cp examples/service.yaml manifests/")
	p.show(onNode, listRules, "as before", p.serviceRule(8080))
}

func headless(p *play) {
	p.do(onNode, "cp examples/service-headless.yaml manifests/service.yaml")
	p.show(inClient, "host "+serviceName, "the addresses of all three pods", resolvesTo(fullName, ips(echoPods[:3])...))
	p.show(onNode, "iptables -t nat -L -n | grep -c "+serviceName, "no rule is left of the ClusterIP", equals("0"))
}

func statefulSet(p *play) {
	const governor = "db.testing.svc.cluster.local"
	p.show(inClient, "host db", "the governing Service has both pods", resolvesTo(governor, ips(dbPods)...))
	for _, pod := range dbPods {
		name := pod.Name + "." + governor
		p.show(inClient, "host "+name, "one pod's own address", resolvesTo(name, pod.IP))
	}
	p.show(inClient, "curl -sS http://db-1.db:5678", "the short form reaches that pod", equals(hello(dbPods[1])))
}

func scaleUp(p *play) {
	p.scale(5)
	p.show(inClient, "host "+serviceName, "the addresses of all five pods", resolvesTo(fullName, ips(echoPods)...))
}

func backToClusterIP(p *play) {
	p.do(onNode, "cp examples/service.yaml manifests/")
	p.show(inClient, "host "+serviceName, "one address again: "+p.clusterIP.String(), resolvesTo(fullName, p.clusterIP))
	p.show(onNode, listChain, "five pods: 20 %, 25 %, 33 %, 50 % and the rest", chainOf(echoPods))
	p.connect(500, echoPods)
}

func scaleDown(p *play) {
	pods := echoPods[:2]
	p.scale(len(pods))
	p.show(onNode, listChain, "two pods: 50 % and the rest", chainOf(pods))
	p.act(p.stage.stopRemoved)
	// With "pods verified" a pod's address has a name while there is such a pod.
	gone, stays := podDNSName(echoPods[2]), podDNSName(pods[0])
	p.show(inClient, "host "+gone, "a removed pod's name is gone", contains("NXDOMAIN"))
	p.show(inClient, "host "+stays, "a remaining one's is not", resolvesTo(stays, pods[0].IP))
	p.show(inClient, "host "+serviceName, "and the Service's address stays", resolvesTo(fullName, p.clusterIP))
	p.connect(300, pods)
}

// backendAuto has the server reload with the backend that is the default on Kubernetes.
func backendAuto(p *play) {
	pods, said := echoPods[:2], ""
	p.do(onNode, fmt.Sprintf("sed -i 's/cluster_cidr/backend auto\\n\\t\\t&/' Corefile && kill -USR1 %d", p.stage.serverPID))
	p.show(onNode, "grep -o 'backend auto is .*' coredns.log", "the log says which it is, and why", func(out string) error {
		said = out
		return contains("backend auto is ")(out)
	})
	if strings.Contains(said, "is nftables") {
		list := "nft list map ip clusterip endpoints | grep " + p.clusterIP.String()
		p.show(onNode, list, "each pod is an element of a map, not a rule", func(out string) error {
			return errors.Join(contains(pods[0].IP.String())(out), contains(pods[1].IP.String())(out))
		})
		p.show(onNode, "iptables -t nat -L -n | grep -c KUBE-SVC", "the rules of iptables are gone", equals("0"))
	}
	p.connect(300, pods)
}

// explained asks the server that runs.
func explained(p *play) {
	p.show(onNode, "coredns explain "+serviceName+".testing -conf Corefile", "the process that runs says so, down to what the kernel holds", func(out string) error {
		return errors.Join(contains(serviceName+".testing works")(out), contains("the kernel holds what is planned")(out))
	})
}

// scale edits the Deployment and then does the controller's part.
func (p *play) scale(replicas int) {
	p.do(onNode, fmt.Sprintf("sed -i 's/replicas: .*/replicas: %d/' manifests/deployment.yaml", replicas))
	p.act(func() error { return p.stage.scale(replicas) })
}

func ips(pods []podSpec) []netip.Addr {
	addrs := make([]netip.Addr, len(pods))
	for i, pod := range pods {
		addrs[i] = pod.IP
	}
	return addrs
}

func podDNSName(pod podSpec) string {
	return strings.ReplaceAll(pod.IP.String(), ".", "-") + ".testing.pod.cluster.local"
}
