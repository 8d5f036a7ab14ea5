package kernelnat

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/kernelnat/conntrack"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/plugin/directive"
	"github.com/coredns/caddy"
)

// Options is a kernelnat stanza.
type Options struct {
	kernelnat.Options
	// Backend is the name of one in the list of package backends. It gets the Settings;
	// see Use.
	Backend string
	netfilter.Settings
	// Sysctls are those of connection tracking that are set at the start.
	Sysctls conntrack.Sysctls
	// Healthz is the address that /healthz and /livez are served on; "" for none.
	Healthz string
	// Exported says of which Services connections are counted for metrics.
	Exported kernelnat.Exported
	// Stanza is nil where there is no kernelnat.
	*directive.Stanza
}

// Use takes the backend of that name, and its policy if no other is configured.
func (o *Options) Use(name string) error {
	backend, err := backends.Find(name)
	o.Backend = name
	backend.Limit(&o.Plan)
	if o.Stanza == nil || !o.Has("load_balancing") && !o.Has("ipvs_scheduler") {
		o.Plan.Policy = backend.Policy
	}
	return err
}

// limit tells plans what a backend has and, unless nothing is written to it, what this kernel has.
func (o *Options) limit(b backends.Backend, to *plan.Options) {
	if o.DryRun {
		b.Limit(to)
		return
	}
	b.LimitHere(to)
}

// Node returns what is said of this node. registered says that every node has a Node
// where the Services come from.
func (o *Options) Node(registered bool) kernelnat.NodeOptions {
	return kernelnat.NodeOptions{Name: o.NodeName, Registered: registered, NodeCIDR: o.Plan.NodeCIDR, Nowhere: o.NodePorts.Nowhere}
}

// Bridge is that of the pods, if detect_local names one.
func (o *Options) Bridge() string {
	if strings.HasSuffix(o.Plan.PodInterface, "+") {
		return "" // a prefix of the names of links
	}
	return o.Plan.PodInterface
}

var options = directive.Table[Options]{Noun: "kernelnat option", Parsers: map[string]directive.Parser[Options]{
	"backend":             parseBackend,
	"node_name":           parseNodeName,
	"cluster_cidr":        parseClusterCIDR,
	"detect_local":        parseDetectLocal,
	"masquerade_all":      directive.Flag(func(o *Options) *bool { return &o.Plan.MasqueradeAll }),
	"masquerade_bit":      parseMasqueradeBit,
	"min_sync_period":     directive.Duration(0, func(o *Options) *time.Duration { return &o.MinSyncPeriod }),
	"sync_period":         parseSyncPeriod,
	"service_proxy_name":  parseServiceProxyName,
	"nodeport_addresses":  parseNodePortAddresses,
	"no_external_ips":     directive.Flag(func(o *Options) *bool { return &o.Plan.NoExternalIPs }),
	"no_such_service":     parseNoSuchService,
	"healthz":             parseHealthz,
	"load_balancing":      parseLoadBalancing,
	"ipvs_scheduler":      parseScheduler,
	"ipvs_tcp_timeout":    ipvsTimeout(func(o *Options) *time.Duration { return &o.IPVS.TCP }),
	"ipvs_tcpfin_timeout": ipvsTimeout(func(o *Options) *time.Duration { return &o.IPVS.TCPFin }),
	"ipvs_udp_timeout":    ipvsTimeout(func(o *Options) *time.Duration { return &o.IPVS.UDP }),
	"connection_metrics":  parseConnectionMetrics,
	"endpoint_metrics":    directive.Flag(func(o *Options) *bool { return &o.CountEndpoints }),
	"dry_run":             directive.Flag(func(o *Options) *bool { return &o.DryRun }),

	// As kube-proxy's flags are named.
	"conntrack_max_per_core":            connections(func(o *Options) *int { return &o.Sysctls.MaxPerCore }),
	"conntrack_min":                     connections(func(o *Options) *int { return &o.Sysctls.Min }),
	"conntrack_tcp_timeout_established": directive.Duration(0, func(o *Options) *time.Duration { return &o.Sysctls.TCPEstablished }),
	"conntrack_tcp_timeout_close_wait":  directive.Duration(0, func(o *Options) *time.Duration { return &o.Sysctls.TCPCloseWait }),
	"conntrack_udp_timeout":             directive.Duration(0, func(o *Options) *time.Duration { return &o.Sysctls.UDP }),
	"conntrack_udp_timeout_stream":      directive.Duration(0, func(o *Options) *time.Duration { return &o.Sysctls.UDPStream }),
	"conntrack_tcp_be_liberal":          directive.Flag(func(o *Options) *bool { return &o.Sysctls.TCPLiberal }),
}}

// ipvsTimeout is the Parser of one of the IPVSTimeouts.
func ipvsTimeout(field func(*Options) *time.Duration) directive.Parser[Options] {
	return func(o *Options, args []string) error {
		if err := directive.Duration(0, field)(o, args); err != nil {
			return err
		}
		if d := *field(o); d%time.Second != 0 || d > netfilter.MaxIPVSTimeout {
			return fmt.Errorf("%v: IPVS counts whole seconds, up to %v: give such a duration, or 0 to leave the kernel's value", d, netfilter.MaxIPVSTimeout)
		}
		return nil
	}
}

func connections(field func(*Options) *int) directive.Parser[Options] {
	return directive.Count("of connections, or 0 to leave the kernel's value", field)
}

// ParseOptions reads the stanza that the controller stands on; the README has the syntax.
// The error joins one for each fault, with the line of the Corefile.
func ParseOptions(c *caddy.Controller) (Options, error) {
	o := Options{Healthz: ":10256", Sysctls: conntrack.DefaultSysctls}
	o.Plan.Healthz = 10256
	if err := o.Use(backends.Default); err != nil {
		return o, err
	}
	o.NodeName, o.SyncPeriod, o.MasqueradeBit = nodeName(), 30*time.Second, netfilter.DefaultMasqueradeBit
	o.Exported.Top = defaultTop
	for c.Next() {
		if o.Stanza != nil {
			return o, errors.Join(o.Err(), directive.NewStanza(c).Errorf("", "kernelnat is there twice in one server block: keep one"))
		}
		o.Stanza = directive.NewStanza(c)
		if len(c.RemainingArgs()) > 0 {
			o.Faultf("", "kernelnat takes no arguments, only a block of options")
		}
		options.Parse(c, o.Stanza, &o)
		o.complete()
	}
	if o.Stanza == nil {
		return o, nil
	}
	return o, o.Err()
}

// complete checks the options together.
func (o *Options) complete() {
	if o.Has("detect_local") && o.Has("cluster_cidr") {
		o.Faultf("detect_local", "kernelnat has detect_local and cluster_cidr, which both say who is a pod: keep one")
	}
	o.Exported.Endpoints = o.CountEndpoints
	const mend = "backend iptables counts no connections: take %s out, or choose backend nftables or auto"
	if o.Backend == "iptables" && o.Has("connection_metrics") && (o.Exported.Top > 0 || len(o.Exported.Named) > 0) {
		o.Faultf("connection_metrics", mend, "connection_metrics")
	}
	if o.Backend == "iptables" && o.CountEndpoints {
		o.Faultf("endpoint_metrics", mend, "endpoint_metrics")
	}
	for _, option := range []string{"ipvs_scheduler", "ipvs_tcp_timeout", "ipvs_tcpfin_timeout", "ipvs_udp_timeout"} {
		if o.Has(option) && o.Backend != "ipvs" {
			o.Faultf(option, "%s is for backend ipvs, and the backend is %s: take it out, or choose backend ipvs", option, o.Backend)
		}
	}
	switch {
	case o.Has("ipvs_scheduler") && o.Has("load_balancing"):
		o.Faultf("ipvs_scheduler", "kernelnat has ipvs_scheduler and load_balancing, which both say how endpoints take turns: keep one")
	case slices.Contains(o.Plan.Lacks, o.Plan.Policy):
		o.Faultf("load_balancing", "load_balancing is %s, which backend %s does not have: choose another policy, or another backend", o.Plan.Policy, o.Backend)
	}
}

// nodeName is the default of node_name: $NODE_NAME, which a DaemonSet sets from
// spec.nodeName, or else the host's name.
func nodeName() string {
	if name := asRegistered(os.Getenv("NODE_NAME")); name != "" {
		return name
	}
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return asRegistered(host)
}

// asRegistered returns the name under which the kubelet would register a host.
func asRegistered(name string) string { return strings.ToLower(strings.TrimSpace(name)) }

func oneArgument(args []string, what string) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("needs one argument, %s, got %d", what, len(args))
	}
	return args[0], nil
}

func parseBackend(o *Options, args []string) error {
	name, err := oneArgument(args, backends.Names())
	if err != nil {
		return err
	}
	return o.Use(name)
}

func parseScheduler(o *Options, args []string) error {
	var names []string
	for _, p := range cluster.Schedulers() {
		names = append(names, p.String())
	}
	all := strings.Join(names, ", ")
	name, err := oneArgument(args, "a scheduler of IPVS: "+all)
	if err != nil {
		return err
	}
	p, err := cluster.ParsePolicy(name)
	if err != nil || !p.OfIPVS() {
		return fmt.Errorf("%q is no scheduler of IPVS: use one of %s", name, all)
	}
	o.Plan.Policy = p
	return nil
}

func parseLoadBalancing(o *Options, args []string) error {
	name, err := oneArgument(args, "random, round_robin or source_hash, or with backend ipvs a scheduler of it")
	if err != nil {
		return err
	}
	o.Plan.Policy, err = cluster.ParsePolicy(name)
	return err
}

func parseNodeName(o *Options, args []string) error {
	name, err := oneArgument(args, "the name of this machine's Node")
	if o.NodeName = asRegistered(name); err == nil && o.NodeName == "" {
		err = errors.New("is empty: give the name of this machine's Node")
	}
	return err
}

func parseClusterCIDR(o *Options, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return fmt.Errorf("needs the pod range, one CIDR of each family at most, got %d", len(args))
	}
	seen := make(map[cluster.Family]bool)
	for _, arg := range args {
		cidr, err := netip.ParsePrefix(arg)
		if err != nil || cidr.Addr().Is4In6() {
			return fmt.Errorf("%q is not a CIDR such as 10.42.0.0/16", arg)
		}
		if cidr.Bits() == 0 {
			return fmt.Errorf("%s holds every address, so nobody is outside it: leave the option out", cidr)
		}
		family := cluster.FamilyOf(cidr.Addr())
		if seen[family] {
			return fmt.Errorf("has two %s ranges: give one that covers both", family)
		}
		seen[family] = true
		o.Plan.ClusterCIDRs = append(o.Plan.ClusterCIDRs, cidr.Masked())
	}
	return nil
}

// maxInterfaceName is IFNAMSIZ less the final zero.
const maxInterfaceName = 15

func parseDetectLocal(o *Options, args []string) error {
	switch {
	case len(args) == 1 && args[0] == "node_cidr":
		o.Plan.NodeCIDR = true
		return nil
	case len(args) == 2 && (args[0] == "bridge" || args[0] == "interface_prefix"):
		// A prefix gets a "+" at its end, and there must be room for it.
		room := maxInterfaceName
		if args[0] == "interface_prefix" {
			room--
		}
		if name := args[1]; name == "" || len(name) > room || strings.ContainsAny(name, "/ \t!+\"") {
			return fmt.Errorf("%q is no name of a network interface", name)
		}
		if o.Plan.PodInterface = args[1]; args[0] == "interface_prefix" {
			o.Plan.PodInterface += "+"
		}
		return nil
	}
	return errors.New("needs one of node_cidr, bridge NAME, interface_prefix PREFIX; without the option cluster_cidr says who is a pod")
}

func parseMasqueradeBit(o *Options, args []string) error {
	text, err := oneArgument(args, "a number from 0 to 31")
	if err != nil {
		return err
	}
	bit, err := strconv.ParseUint(text, 10, 8)
	if err != nil || bit > 31 {
		return fmt.Errorf("%q is not a number from 0 to 31", text)
	}
	o.MasqueradeBit = uint8(bit)
	return nil
}

func parseSyncPeriod(o *Options, args []string) error {
	err := directive.Duration(0, func(o *Options) *time.Duration { return &o.SyncPeriod })(o, args)
	if err == nil && o.SyncPeriod != 0 && o.SyncPeriod < time.Second {
		err = fmt.Errorf("%v is too short to look at all rules: give 1s or more, or 0 to never look", o.SyncPeriod)
	}
	return err
}

func parseServiceProxyName(o *Options, args []string) error {
	name, err := oneArgument(args, "the value of the label service.kubernetes.io/service-proxy-name")
	o.Plan.Proxy = cluster.NamedProxy(name)
	return err
}

func parseNodePortAddresses(o *Options, args []string) error {
	if len(args) == 0 {
		return errors.New("needs all, primary, or the CIDRs of this node's addresses that NodePorts are to be at")
	}
	if len(args) == 1 && (args[0] == "all" || args[0] == "primary") {
		o.NodePorts = netfilter.NodePorts{Primary: args[0] == "primary"}
		return nil
	}
	for _, arg := range args {
		cidr, err := netip.ParsePrefix(arg)
		if err != nil || cidr.Addr().Is4In6() {
			return fmt.Errorf("%q is neither a CIDR such as 192.0.2.0/24 nor, alone, all or primary", arg)
		}
		o.NodePorts.Ranges = append(o.NodePorts.Ranges, cidr.Masked())
	}
	if slices.ContainsFunc(o.NodePorts.Ranges, func(r netip.Prefix) bool { return r.Bits() == 0 }) {
		o.NodePorts = netfilter.NodePorts{} // one that holds every address is as good as all
	}
	return nil
}

// The series of connections that are exported without a word in the Corefile, and at most.
const (
	defaultTop = 20
	mostTop    = 1000
)

func parseConnectionMetrics(o *Options, args []string) error {
	o.Exported.Top = 0
	switch {
	case len(args) == 0:
		return errors.New("needs off, top N, or the names of Services: NAMESPACE/NAME")
	case len(args) == 1 && args[0] == "off":
		return nil
	case len(args) == 2 && args[0] == "top":
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 || n > mostTop {
			return fmt.Errorf("top %q: how many is a number from 1 to %d", args[1], mostTop)
		}
		o.Exported.Top = n
		return nil
	case len(args) > mostTop:
		return fmt.Errorf("names %d Services, and may name %d", len(args), mostTop)
	}
	o.Exported.Named = make(map[cluster.ServiceName]bool)
	for _, arg := range args {
		namespace, name, ok := strings.Cut(arg, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return fmt.Errorf("%q is none of off, top N, and NAMESPACE/NAME", arg)
		}
		o.Exported.Named[cluster.ServiceName{Namespace: namespace, Name: name}] = true
	}
	return nil
}

func parseNoSuchService(o *Options, args []string) error {
	what, err := oneArgument(args, "reject or off")
	if err != nil {
		return err
	}
	if what != "reject" && what != "off" {
		return fmt.Errorf("%q is neither reject nor off", what)
	}
	o.KeepUnknown = what == "off"
	return nil
}

func parseHealthz(o *Options, args []string) error {
	address, err := oneArgument(args, "an address such as :10256, or off")
	if err != nil {
		return err
	}
	if o.Healthz, o.Plan.Healthz = "", 0; address == "off" {
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	var number uint64
	if err == nil {
		number, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%q is not an address such as :10256 or 127.0.0.1:10256, nor off", address)
	}
	o.Healthz, o.Plan.Healthz = address, uint16(number)
	return nil
}
