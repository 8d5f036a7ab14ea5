package names

import (
	"regexp"
	"slices"
	"strings"

	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
)

// difference is one that is meant: a kind of question to which both answers are of
// a certain kind.
type difference struct {
	reason string // as docs/dns.md has it
	meant  func(pair) bool
}

var differences = []difference{
	{"SOA records of reverse zones", func(p pair) bool { return p.stock.equal(p.ours) }}, // the name server is left out by now
	{"A question for the SOA below the apex", func(p pair) bool {
		return p.qtype == dns.TypeSOA && nodata(p.stock) && absent(p.ours)
	}},
	{"Empty names above existing ones", func(p pair) bool {
		return absent(p.stock) && nodata(p.ours) && emptyAbove.MatchString(p.lower())
	}},
	{"Serving endpoints that terminate count", func(p pair) bool {
		return p.world.terminating(p.lower()) || p.pointers().terminating
	}},
	{"ANY gets one set of records", func(p pair) bool {
		return p.qtype == dns.TypeANY && (absent(p.stock) || nodata(p.stock)) && p.ours.rcode == "NOERROR" && len(p.ours.answer) > 0
	}},
	{"An ExternalName is an alias for every type", func(p pair) bool {
		return p.world.alias(p.lower()) && (nodata(p.stock) || deadEnd(p.stock, p.ours)) &&
			(p.ours.rcode == passedOn || strings.Contains(strings.Join(p.ours.answer, " "), " IN CNAME "))
	}},
	{"`pin._zone.<service>` has no data", func(p pair) bool {
		return p.profile == "zonal" && zoneless.MatchString(p.lower()) && absent(p.stock) && nodata(p.ours)
	}},
	{"EndpointSlices of no Service have no names", func(p pair) bool {
		return p.pointers().ownerless
	}},
	{"`namespace_labels` holds for reverse names too", func(p pair) bool {
		return p.pointers().unselected
	}},
	{"The zone and its other names exist for every type", func(p pair) bool {
		return absent(p.stock) && nodata(p.ours) && fixedName.MatchString(p.lower())
	}},
	{"`ns.dns` has an address", func(p pair) bool {
		return nsName.MatchString(p.lower()) && (nodata(p.stock) || absent(p.stock)) && len(p.ours.answer) == 1
	}},
	{"A zone has a name server", func(p pair) bool {
		return p.qtype == dns.TypeNS && apex.MatchString(p.lower()) && nodata(p.stock) && len(p.ours.answer) == 1
	}},
	{"Weights of SRV records count an endpoint once", func(p pair) bool {
		return p.qtype == dns.TypeSRV && slices.Equal(withoutWeights(p.stock.answer), withoutWeights(p.ours.answer)) && slices.Equal(p.stock.extra, p.ours.extra)
	}},
}

var (
	emptyAbove = regexp.MustCompile(`^(svc|dns|pod)\.cluster(set)?\.local\.$|^_?(tcp|udp|sctp)\.|^_\.|^(east|west|east-2)\.svc-[^.]*\.[a-z]+\.svc\.clusterset\.local\.$|\.(in-addr|ip6)\.arpa\.$`)
	fixedName  = regexp.MustCompile(`^(dns-version\.|ns\.dns\.)?cluster(set)?\.local\.$|^(in-addr|ip6)\.arpa\.$|^(shop|media|lab|void)\.(pod|svc)\.cluster(set)?\.local\.$`)
	apex       = regexp.MustCompile(`^(cluster(set)?\.local|(in-addr|ip6)\.arpa)\.$`)
	nsName     = regexp.MustCompile(`^ns\.dns\.cluster(set)?\.local\.$`)
	zoneless   = regexp.MustCompile(`^(pin\.)?_zone\.`)
	reverseSOA = regexp.MustCompile(` SOA ns\.dns\.(in-addr|ip6)\.arpa\. hostmaster\.(in-addr|ip6)\.arpa\.`)
)

// explain returns the reason for a difference, or "".
func explain(p pair) string {
	p.stock = sameNameServer(p.stock)
	for _, d := range differences {
		if d.meant(p) {
			return d.reason
		}
	}
	return ""
}

func (p pair) lower() string { return strings.ToLower(p.name) }

// sameNameServer gives reverse zones the name server of the first forward zone.
func sameNameServer(r reply) reply {
	r.answer, r.authority = slices.Clone(r.answer), slices.Clone(r.authority)
	for _, section := range [][]string{r.answer, r.authority} {
		for i, text := range section {
			section[i] = reverseSOA.ReplaceAllString(text, " SOA ns.dns.cluster.local. hostmaster.cluster.local.")
		}
	}
	return r
}

// deadEnd reports whether an answer is a chain of CNAMEs, of which the other has more or
// was passed on at its end.
func deadEnd(r, more reply) bool {
	return len(r.answer) > 0 && !slices.ContainsFunc(r.answer, func(text string) bool {
		return !strings.Contains(text, " IN CNAME ") || more.rcode != passedOn && !slices.Contains(more.answer, text)
	})
}

// absent: the name does not exist, or the question was passed on for that reason.
func absent(r reply) bool { return r.rcode == "NXDOMAIN" || r.rcode == passedOn }

func nodata(r reply) bool {
	return r.rcode == "NOERROR" && len(r.answer) == 0 && len(r.authority) == 1 && strings.Contains(r.authority[0], " SOA ")
}

// serviceOf splits the name of a Service or of something in it.
func serviceOf(name string) (namespace, service string) {
	labels := dns.SplitDomainName(name)
	if len(labels) < 5 || labels[len(labels)-3] != "svc" {
		return "", ""
	}
	return labels[len(labels)-4], labels[len(labels)-5]
}

// alias reports whether a name is that of an ExternalName Service.
func (w *world) alias(name string) bool {
	namespace, service := serviceOf(name)
	s := w.services[namespace+"/"+service]
	return !imported(name) && s != nil && s.Spec.Type == corev1.ServiceTypeExternalName
}

func imported(name string) bool { return strings.HasSuffix(name, ".clusterset.local.") }

// terminating reports whether a name is that of a Service with endpoints that
// terminate and still serve, and none that is ready.
func (w *world) terminating(name string) bool {
	namespace, service := serviceOf(name)
	label := discoveryv1.LabelServiceName
	if imported(name) {
		label = mcsv1alpha1.LabelServiceName
	}
	found := false
	for _, slice := range w.slices {
		if slice.Namespace != namespace || slice.Labels[label] != service {
			continue
		}
		for _, e := range slice.Endpoints {
			c := e.Conditions
			if c.Ready == nil || *c.Ready {
				return false
			}
			found = found || c.Serving != nil && *c.Serving && c.Terminating != nil && *c.Terminating
		}
	}
	return found
}

// pointers says why two reverse answers differ. Nothing is set if part of the
// difference has no reason.
type pointers struct {
	terminating bool // ours points to Services with endpoints that terminate and still serve
	ownerless   bool // kubernetes to Services that are not there, or have no endpoints by their nature
	unselected  bool // kubernetes to Services of a namespace that is not selected
}

func (p pair) pointers() pointers {
	var out pointers
	if p.qtype != dns.TypePTR {
		return out
	}
	for _, target := range only(p.ours, p.stock) {
		if !p.world.terminating(target) {
			return pointers{}
		}
		out.terminating = true
	}
	for _, target := range only(p.stock, p.ours) {
		namespace, service := serviceOf(target)
		switch {
		case p.profile == "zonal" && namespace == "lab":
			out.unselected = true
		case p.world.services[namespace+"/"+service] == nil || p.world.alias(target):
			out.ownerless = true
		default:
			return pointers{}
		}
	}
	return out
}

// only returns the targets of the records that one answer has and another lacks.
func only(of, not reply) []string {
	var out []string
	for _, text := range of.answer {
		if !slices.Contains(not.answer, text) {
			out = append(out, text[strings.LastIndexByte(text, ' ')+1:])
		}
	}
	return out
}

var weight = regexp.MustCompile(` SRV 0 \d+ `)

func withoutWeights(answer []string) []string {
	out := slices.Clone(answer)
	for i, text := range out {
		out[i] = weight.ReplaceAllString(text, " SRV 0 ")
	}
	return out
}
