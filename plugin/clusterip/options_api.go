package clusterip

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/clusterip/clusterip/plugin/clusterip/zone"
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

func (o *Options) completeAPI(seen places) error {
	for _, name := range folderOptions {
		if seen.has(name) {
			return fmt.Errorf("option %s is for a folder of YAML: name one with manifests DIR, or remove %s, since an API server keeps that itself", name, name)
		}
	}
	if len(o.Namespaces) > 0 && o.API.NamespaceLabels != "" {
		return errors.New("namespaces and namespace_labels both say which namespaces are served: keep one")
	}
	if o.API.NoEndpoints && o.IgnoreEmpty {
		return errors.New("ignore empty_service looks at endpoints, and noendpoints has none: remove one")
	}
	if o.API.NoEndpoints && o.Zonal {
		return errors.New("zonal answers from endpoints, and noendpoints has none: remove one")
	}
	return nil
}

// idle says which options have no effect. CoreDNS's kubernetes plugin takes them in
// silence and serves, so they are no errors.
func (o *Options) idle(seen places) []string {
	var all []string
	warn := func(option, why string) { all = append(all, fmt.Sprintf("%s: %s %s", seen[option], option, why)) }
	switch {
	case o.API.Kubeconfig == "":
	case seen.has("endpoint"):
		warn("endpoint", "has no effect beside kubeconfig, which says where the API server is: keep one")
	case seen.has("tls"):
		warn("tls", "has no effect beside kubeconfig, which names the certificates: remove it")
	}
	if seen.has("kubeconfig") && o.API.Kubeconfig == "" {
		warn("kubeconfig", "is empty and has no effect: name a file, or remove it")
	}
	if seen.has("endpoint") && o.API.Endpoint == "" {
		warn("endpoint", "is empty and has no effect: give the URL of an API server, or remove it")
	}
	if seen.has("tls") && o.API.Kubeconfig == "" && o.API.Endpoint == "" {
		warn("tls", "has no effect without endpoint: give that the URL of the API server, or remove tls")
	}
	if seen.has("pods_on_node") && o.Pods != zone.PodsVerified {
		warn("pods_on_node", "has no effect without pods verified: add that, or remove it")
	}
	return all
}

// key is the same for options that read the same objects in the same way.
func (o Options) key() any {
	if o.Manifest.Dir != "" {
		return folderKey(o.Manifest)
	}
	return o.API
}

// needs returns what the names need of a source beyond Services.
func (o Options) needs() needs {
	return needs{pods: o.Pods == zone.PodsVerified, podsNode: o.PodsOnNode, podNames: o.EndpointPodNames || o.PTRFirst, imports: len(o.Multicluster) > 0}
}

func newOrigin(own *server, o Options) (origin, error) {
	if o.Manifest.Dir != "" {
		return newFolder(own, o.Manifest)
	}
	return newAPIServer(own, o.API)
}

func parseKubeconfig(o *Options, args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("kubeconfig takes a file, and the name of a context if it is not the current one")
	}
	if len(args) == 2 && args[0] == "" {
		return fmt.Errorf("kubeconfig has the context %q and an empty file name: name the file", args[1])
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
		return errors.New("pods_on_node takes the name of the Node that this server runs on, such as {$NODE_NAME}; is the variable set?")
	}
	o.PodsOnNode = args[0]
	return nil
}

func parseEndpoint(o *Options, args []string) error {
	if len(args) == 0 {
		return errors.New("endpoint takes the URL of an API server, or those of several of one cluster")
	}
	o.API.Endpoint = strings.Join(args, " ")
	return nil
}

func parseTLS(o *Options, args []string) error {
	if len(args) != 3 {
		return errors.New("tls takes three files: certificate, key, and the API server's CA")
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
	return fmt.Errorf("apiserver_qps %q: give one number of requests a second, or 0 for the default", strings.Join(args, " "))
}

func parseBurst(o *Options, args []string) error {
	return parseCount("apiserver_burst", &o.API.Burst, args)
}

func parseMaxInflight(o *Options, args []string) error {
	return parseCount("apiserver_max_inflight", &o.API.MaxInflight, args)
}

func parseCount(name string, to *int, args []string) error {
	if len(args) == 1 {
		if n, err := strconv.Atoi(args[0]); err == nil && n >= 0 {
			*to = n
			return nil
		}
	}
	return fmt.Errorf("%s %q: give one number of requests, or 0 for the default", name, strings.Join(args, " "))
}

func parseLabels(o *Options, args []string) error {
	return o.parseSelector("labels", &o.API.Labels, args)
}

func parseNamespaceLabels(o *Options, args []string) error {
	return o.parseSelector("namespace_labels", &o.API.NamespaceLabels, args)
}

// parseSelector keeps the selector in its one canonical form, so that feeds can be
// compared.
func (o *Options) parseSelector(name string, to *string, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%s takes a label selector such as app=web", name)
	}
	text := strings.Join(args, " ")
	parsed, err := metav1.ParseToLabelSelector(text)
	if err != nil {
		return fmt.Errorf("%s %q is no label selector such as app=web,tier in (a, b): %w", name, text, err)
	}
	selector, err := metav1.LabelSelectorAsSelector(parsed)
	if err != nil {
		return fmt.Errorf("%s %q is no label selector such as app=web,tier in (a, b): %w", name, text, err)
	}
	if selector.Empty() {
		o.Warnings = append(o.Warnings, name+" is empty and selects everything: give a label selector such as app=web, or remove it")
	}
	*to = selector.String()
	return nil
}

func parseNoEndpoints(o *Options, args []string) error {
	if len(args) > 0 {
		return errors.New("noendpoints takes no arguments")
	}
	o.API.NoEndpoints = true
	return nil
}

func parseStaleAfter(o *Options, args []string) error {
	return parseTime("stale_after", &o.StaleAfter, time.Second, args)
}

func parseStartupTimeout(o *Options, args []string) error {
	o.onlyFirst("startup_timeout", args)
	return parseTime("startup_timeout", &o.StartupTimeout, 0, args[:min(len(args), 1)])
}

func parseTime(name string, to *time.Duration, least time.Duration, args []string) error {
	if len(args) == 1 {
		if d, err := time.ParseDuration(args[0]); err == nil && d >= least {
			*to = d
			return nil
		}
	}
	return fmt.Errorf("%s %q: give one duration such as 30s, of at least %s", name, strings.Join(args, " "), least)
}
