package clusterip

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster/allocator"
	"github.com/clusterip/clusterip/cluster/kubernetes"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/clusterip/clusterip/plugin/directive"
	"github.com/coredns/caddy"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/fall"
	"k8s.io/apimachinery/pkg/util/validation"
)

const (
	defaultTTL            = 5
	maxTTL                = 3600
	defaultStartupTimeout = 5 * time.Second
)

var defaultServiceCIDR = netip.MustParsePrefix("10.43.0.0/16")

// Options is a parsed clusterip directive.
type Options struct {
	Zones            []string           // lower case, fully qualified; at least one is no reverse zone
	Manifest         manifest.Options   // Dir is "" where the API server is read
	API              kubernetes.Options // without what it is told when it starts: see needs
	PodsOnNode       string             // the Node whose pods are enough for PodsVerified; "" for all
	StartupTimeout   time.Duration      // how long to wait for the first sync
	StaleAfter       time.Duration      // how old what is known may be for a ready server; 0 for any age
	TTL              uint32
	Pods             zone.PodMode
	Namespaces       []string // the only ones served; none means all
	EndpointPodNames bool
	PTRFirst         bool // one PTR record for each pod at an address
	IgnoreEmpty      bool // no names for a ClusterIP without usable endpoints
	Zonal            bool
	Multicluster     []string // those of Zones that have imported Services
	Fall             fall.F
	Fast             FastMode
	FastThreads      int      // of the fast path; 0 for as many as suit the machine
	Warnings         []string // each with its place in the Corefile

	*directive.Stanza

	idle []idle // what there is to warn of, until the places are known
}

// idle is an option of which something has no effect, and why. CoreDNS's kubernetes
// plugin takes that in silence and serves, so it is no error.
type idle struct{ option, why string }

func (o *Options) warn(option, why string) { o.idle = append(o.idle, idle{option, why}) }

var podModes = map[string]zone.PodMode{"disabled": zone.PodsDisabled, "insecure": zone.PodsInsecure, "verified": zone.PodsVerified}

var options = directive.Table[Options]{Noun: "option", Parsers: map[string]directive.Parser[Options]{
	"manifests":              path("folder", func(o *Options) *string { return &o.Manifest.Dir }),
	"service_cidr":           parseServiceCIDR,
	"state":                  path("file", func(o *Options) *string { return &o.Manifest.State }),
	"kubeconfig":             parseKubeconfig,
	"endpoint":               parseEndpoint,
	"tls":                    parseTLS,
	"apiserver_qps":          parseQPS,
	"apiserver_burst":        requests(func(o *Options) *int { return &o.API.Burst }),
	"apiserver_max_inflight": requests(func(o *Options) *int { return &o.API.MaxInflight }),
	"labels":                 selector("labels", func(o *Options) *string { return &o.API.Labels }),
	"namespace_labels":       selector("namespace_labels", func(o *Options) *string { return &o.API.NamespaceLabels }),
	"noendpoints":            directive.Flag(func(o *Options) *bool { return &o.API.NoEndpoints }),
	"stale_after":            directive.Duration(time.Second, func(o *Options) *time.Duration { return &o.StaleAfter }),
	"startup_timeout":        parseStartupTimeout,
	"ttl":                    parseTTL,
	"pods":                   directive.Choice(podModes, func(o *Options) *zone.PodMode { return &o.Pods }),
	"pods_on_node":           parsePodsOnNode,
	"ptr":                    directive.Choice(map[string]bool{"all": false, "first": true}, func(o *Options) *bool { return &o.PTRFirst }),
	"namespaces":             parseNamespaces,
	"endpoint_pod_names":     directive.Flag(func(o *Options) *bool { return &o.EndpointPodNames }),
	"ignore":                 parseIgnore,
	"zonal":                  directive.Flag(func(o *Options) *bool { return &o.Zonal }),
	"multicluster":           parseMulticluster,
	"fallthrough":            parseFallthrough,
	"fastpath":               parseFastpath,
}, Repeats: []string{
	// All that CoreDNS's kubernetes plugin has too: namespaces are added to each
	// other, and of the others the last counts, as there.
	"kubeconfig", "endpoint", "tls", "apiserver_qps", "apiserver_burst", "apiserver_max_inflight", "labels", "namespace_labels", "noendpoints",
	"startup_timeout", "ttl", "pods", "namespaces", "endpoint_pod_names", "ignore", "zonal", "multicluster", "fallthrough",
}}

// ParseOptions reads the clusterip directive of a server block, starts nothing and
// logs nothing. Relative paths start at root, the block's root directive, or else at
// the working directory. The README has the syntax. The error joins one for each fault.
func ParseOptions(c *caddy.Controller, root string) (Options, error) {
	o := Options{TTL: defaultTTL, StartupTimeout: defaultStartupTimeout}
	for c.Next() {
		if o.Stanza != nil {
			return o, errors.Join(o.Err(), directive.NewStanza(c).Errorf("", "clusterip is there twice in one server block: keep one"))
		}
		o.Stanza = directive.NewStanza(c)
		zones := c.RemainingArgs()
		if len(zones) == 0 {
			zones = c.ServerBlockKeys
		}
		o.readZones(zones)
		options.Parse(c, o.Stanza, &o)
		o.complete(root)
		o.findIdle()
		for _, w := range o.idle {
			o.Warnings = append(o.Warnings, fmt.Sprintf("%s: %s %s", o.Place(w.option), w.option, w.why))
		}
		o.idle = nil
	}
	return o, o.Err()
}

func (o *Options) readZones(zones []string) {
	if err := checkZones(zones); err != nil {
		o.Faultf("", "%w", err)
		return
	}
	o.Zones = plugin.OriginsFromArgsOrServerBlock(zones, nil)
	if !slices.ContainsFunc(o.Zones, func(z string) bool { return !zone.IsReverse(z) }) {
		o.Faultf("", "clusterip needs a zone that is not a reverse one, such as cluster.local; it has %q", o.Zones)
	}
}

// zoneName matches a fully qualified name whose labels anyone would give a zone.
var zoneName = regexp.MustCompile(`^(\.|([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+)$`)

// checkZones refuses what CoreDNS leaves out, or takes literally, without a word.
func checkZones(args []string) error {
	for _, text := range args {
		zones := plugin.Host(text).NormalizeExact()
		if len(zones) == 0 || slices.ContainsFunc(zones, func(z string) bool { return !zoneName.MatchString(z) }) {
			return fmt.Errorf("zone %q is neither a domain name such as cluster.local nor a CIDR such as %s", text, defaultServiceCIDR)
		}
	}
	return nil
}

// complete checks the options together and fills in defaults.
func (o *Options) complete(root string) {
	for _, z := range o.Multicluster {
		if len(o.Zones) > 0 && !slices.Contains(o.Zones, z) {
			o.Faultf("multicluster", "multicluster zone %s is none of the zones of clusterip, %q: add it to them", z, o.Zones)
		}
	}
	if o.Manifest.Dir == "" {
		if !o.Has("manifests") { // if it is there, it has its fault already
			o.completeAPI()
		}
		return
	}
	for _, name := range apiOptions {
		if o.Has(name) {
			o.Faultf(name, "option %s is for an API server, and manifests for a folder in its place: remove one", name)
		}
	}
	o.Manifest.Dir = below(root, o.Manifest.Dir)
	if o.Manifest.State != "" {
		o.Manifest.State = below(root, o.Manifest.State)
	}
	if len(o.Manifest.ServiceCIDRs) == 0 {
		o.Manifest.ServiceCIDRs = []netip.Prefix{defaultServiceCIDR}
	}
}

// onlyFirst warns of arguments that CoreDNS's kubernetes plugin takes in silence and
// passes over.
func (o *Options) onlyFirst(option string, args []string) {
	if len(args) > 1 {
		o.warn(option, fmt.Sprintf("has %d arguments and only the first, %s, is used: remove the others", len(args), args[0]))
	}
}

// below makes a relative path relative to the root directive, as the file plugin
// does.
func below(root, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(root, name)
}

// path is the Parser of an option with one path.
func path(what string, field func(*Options) *string) directive.Parser[Options] {
	return func(o *Options, args []string) error {
		if len(args) != 1 || args[0] == "" {
			return fmt.Errorf("takes one %s", what)
		}
		*field(o) = args[0]
		return nil
	}
}

// reserved is for future use (RFC 1112 section 4).
var reserved = netip.MustParsePrefix("240.0.0.0/4")

func parseServiceCIDR(o *Options, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("takes CIDRs such as %s, those of one IP version or of both", defaultServiceCIDR)
	}
	var cidrs []netip.Prefix
	for _, text := range args {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return fmt.Errorf("%q is not a CIDR such as %s", text, defaultServiceCIDR)
		}
		if prefix != prefix.Masked() {
			return fmt.Errorf("%s has host bits set: write %s", prefix, prefix.Masked())
		}
		if a := prefix.Addr(); prefix.Bits() > 0 && (a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsMulticast() || reserved.Contains(a)) {
			return fmt.Errorf("%s has addresses that no Service can have (loopback, link-local, multicast or reserved): give a private range such as %s", prefix, defaultServiceCIDR)
		}
		cidrs = append(cidrs, prefix)
	}
	o.Manifest.ServiceCIDRs = cidrs
	_, err := allocator.New(cidrs)
	return err
}

func parseTTL(o *Options, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("takes one number of seconds")
	}
	o.onlyFirst("ttl", args)
	ttl, err := strconv.Atoi(args[0])
	if err != nil || ttl < 0 || ttl > maxTTL {
		return fmt.Errorf("%q is no number of seconds from 0 to %d", args[0], maxTTL)
	}
	o.TTL = uint32(ttl)
	return nil
}

func parseNamespaces(o *Options, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("takes at least one namespace; without the option all are served")
	}
	for _, name := range args {
		if len(validation.IsDNS1123Label(name)) > 0 {
			return fmt.Errorf("%q cannot be the name of a namespace: write lower-case names, with spaces between", name)
		}
		if !slices.Contains(o.Namespaces, name) {
			o.Namespaces = append(o.Namespaces, name)
		}
	}
	return nil
}

func parseIgnore(o *Options, args []string) error {
	if len(args) == 0 {
		o.warn("ignore", "without an argument has no effect: make it ignore empty_service, or remove it")
		return nil
	}
	o.onlyFirst("ignore", args)
	if args[0] != "empty_service" {
		return fmt.Errorf("%q: only empty_service can be ignored", args[0])
	}
	o.IgnoreEmpty = true
	return nil
}

func parseMulticluster(o *Options, args []string) error {
	if err := checkZones(args); err != nil {
		return err
	}
	o.Multicluster = plugin.OriginsFromArgsOrServerBlock(args, nil)
	return nil
}

func parseFallthrough(o *Options, args []string) error {
	o.Fall.SetZonesFromArgs(args)
	return checkZones(args)
}

// maxThreads is more than any machine needs, and few enough for their buffers.
const maxThreads = 256

// parseFastpath reads [auto|on|off] [threads N].
func parseFastpath(o *Options, args []string) error {
	modes := map[string]FastMode{"auto": FastAuto, "on": FastOn, "off": FastOff}
	rest := args
	if len(rest) > 0 && rest[0] != "threads" {
		mode, known := modes[rest[0]]
		if !known {
			return fmt.Errorf("%q: give auto, on or off, and then perhaps threads and a number", rest[0])
		}
		o.Fast, rest = mode, rest[1:]
	}
	switch {
	case len(rest) == 0:
		return nil
	case len(rest) != 2 || rest[0] != "threads":
		return fmt.Errorf("%q: give auto, on or off, and then perhaps threads and a number", strings.Join(args, " "))
	}
	n, err := strconv.Atoi(rest[1])
	if err != nil || n < 1 || n > maxThreads {
		return fmt.Errorf("%q is no number of threads from 1 to %d", rest[1], maxThreads)
	}
	o.FastThreads = n
	return nil
}
