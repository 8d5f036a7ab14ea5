package clusterip

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster/feed"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
	"github.com/clusterip/clusterip/plugin/directive"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// apiOptions make sense only where an API server is read, folderOptions where a
// folder is.
var (
	apiOptions = []string{
		"kubeconfig", "endpoint", "tls", "apiserver_qps", "apiserver_burst", "apiserver_max_inflight",
		"labels", "namespace_labels", "noendpoints", "stale_after", "multicluster", "pods_on_node",
	}
	folderOptions = []string{"service_cidr", "state"}
)

func (o *Options) completeAPI() {
	for _, name := range folderOptions {
		if o.Has(name) {
			o.Faultf(name, "option %s is for a folder of YAML: name one with manifests DIR, or remove %s, since an API server keeps that itself", name, name)
		}
	}
	if len(o.Namespaces) > 0 && o.API.NamespaceLabels != "" {
		o.Faultf("namespace_labels", "namespaces and namespace_labels both say which namespaces are served: keep one")
	}
	if o.API.NoEndpoints && o.IgnoreEmpty {
		o.Faultf("noendpoints", "ignore empty_service looks at endpoints, and noendpoints has none: remove one")
	}
	if o.API.NoEndpoints && o.Zonal {
		o.Faultf("noendpoints", "zonal answers from endpoints, and noendpoints has none: remove one")
	}
}

// findIdle warns of options that others make have no effect.
func (o *Options) findIdle() {
	switch {
	case o.API.Kubeconfig == "":
	case o.Has("endpoint"):
		o.warn("endpoint", "has no effect beside kubeconfig, which says where the API server is: keep one")
	case o.Has("tls"):
		o.warn("tls", "has no effect beside kubeconfig, which names the certificates: remove it")
	}
	if o.Has("kubeconfig") && o.API.Kubeconfig == "" {
		o.warn("kubeconfig", "is empty and has no effect: name a file, or remove it")
	}
	if o.Has("endpoint") && o.API.Endpoint == "" {
		o.warn("endpoint", "is empty and has no effect: give the URL of an API server, or remove it")
	}
	if o.Has("tls") && o.API.Kubeconfig == "" && o.API.Endpoint == "" {
		o.warn("tls", "has no effect without endpoint: give that the URL of the API server, or remove tls")
	}
	if o.Has("pods_on_node") && o.Pods != zone.PodsVerified {
		o.warn("pods_on_node", "has no effect without pods verified: add that, or remove it")
	}
}

// Origin is where the objects are.
func (o Options) Origin() feed.Origin {
	if o.Manifest.Dir != "" {
		return feed.Folder(o.Manifest)
	}
	return feed.APIServer(o.API)
}

// Source is the option that names the Origin.
func (o Options) Source() string {
	for _, option := range []string{"manifests", "kubeconfig"} {
		if o.Has(option) {
			return option
		}
	}
	return "endpoint"
}

// needs returns what the names need of a source beyond Services.
func (o Options) needs() feed.Needs {
	return feed.Needs{Pods: o.Pods == zone.PodsVerified, PodsNode: o.PodsOnNode, PodNames: o.EndpointPodNames || o.PTRFirst, Imports: len(o.Multicluster) > 0}
}

func parseKubeconfig(o *Options, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("takes a file, and the name of a context if it is not the current one")
	}
	if len(args) == 2 && args[0] == "" {
		return fmt.Errorf("has the context %q and an empty file name: name the file", args[1])
	}
	o.API.Kubeconfig, o.API.Context = args[0], ""
	if len(args) == 2 {
		o.API.Context = args[1]
	}
	return nil
}

// parsePodsOnNode takes the name of a Node, mostly from an environment variable.
func parsePodsOnNode(o *Options, args []string) error {
	if len(args) != 1 || len(validation.IsDNS1123Subdomain(args[0])) > 0 {
		return errors.New("takes the name of the Node that this server runs on, such as {$NODE_NAME}; is the variable set?")
	}
	o.PodsOnNode = args[0]
	return nil
}

func parseEndpoint(o *Options, args []string) error {
	if len(args) == 0 {
		return errors.New("takes the URL of an API server, or those of several of one cluster")
	}
	o.API.Endpoint = strings.Join(args, " ")
	return nil
}

func parseTLS(o *Options, args []string) error {
	if len(args) != 3 {
		return errors.New("takes three files: certificate, key, and the API server's CA")
	}
	o.API.CertFile, o.API.KeyFile, o.API.CAFile = args[0], args[1], args[2]
	return nil
}

func parseQPS(o *Options, args []string) error {
	if len(args) == 1 {
		if qps, err := strconv.ParseFloat(args[0], 32); err == nil && qps >= 0 {
			o.API.QPS = float32(qps)
			return nil
		}
	}
	return fmt.Errorf("%q: give one number of requests a second, or 0 for the default", strings.Join(args, " "))
}

func requests(field func(*Options) *int) directive.Parser[Options] {
	return directive.Count("of requests, or 0 for the default", field)
}

// selector is the Parser of an option with a label selector. It keeps the one canonical
// form, so that origins can be compared.
func selector(name string, field func(*Options) *string) directive.Parser[Options] {
	return func(o *Options, args []string) error {
		if len(args) == 0 {
			return errors.New("takes a label selector such as app=web")
		}
		text := strings.Join(args, " ")
		parsed, err := metav1.ParseToLabelSelector(text)
		if err != nil {
			return fmt.Errorf("%q is no label selector such as app=web,tier in (a, b): %w", text, err)
		}
		selector, err := metav1.LabelSelectorAsSelector(parsed)
		if err != nil {
			return fmt.Errorf("%q is no label selector such as app=web,tier in (a, b): %w", text, err)
		}
		if selector.Empty() {
			o.warn(name, "is empty and selects everything: give a label selector such as app=web, or remove it")
		}
		*field(o) = selector.String()
		return nil
	}
}

func parseStartupTimeout(o *Options, args []string) error {
	o.onlyFirst("startup_timeout", args)
	parse := directive.Duration(0, func(o *Options) *time.Duration { return &o.StartupTimeout })
	return parse(o, args[:min(len(args), 1)])
}
