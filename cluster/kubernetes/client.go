package kubernetes

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientset "k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	mcsv1alpha1 "sigs.k8s.io/mcs-api/pkg/apis/v1alpha1"
	mcsclient "sigs.k8s.io/mcs-api/pkg/client/clientset/versioned/typed/apis/v1alpha1"
)

// Options say where the API server is and what is watched. Without Kubeconfig and
// Endpoint it is that of the cluster this process runs in. Options are comparable:
// equal ones watch the same objects.
type Options struct {
	Kubeconfig string // a file; wins over Endpoint
	Context    string // of the kubeconfig; "" for its current one

	// Endpoint is the URL of an API server, or those of several of one cluster with
	// spaces between.
	Endpoint string
	// CertFile, KeyFile and CAFile are for Endpoint alone.
	CertFile, KeyFile, CAFile string

	QPS         float32 // of requests; 0 for client-go's default
	Burst       int     // 0 for client-go's default
	MaxInflight int     // requests at once; 0 for any number

	// Labels selects Services, EndpointSlices and Pods, NamespaceLabels the
	// namespaces whose objects count. "" selects all.
	Labels, NamespaceLabels string
	NoEndpoints             bool   // EndpointSlices are not watched
	Imports                 bool   // ServiceImports are watched, and their EndpointSlices
	Pods                    bool   // Pods are watched
	PodsNode                string // only those on this Node; "" for all
	PodNames                bool   // endpoints come with the names of their pods, see cluster.Endpoint
	Node                    string // the Node to watch, and with it the ServiceCIDRs; "" for none
}

// clients are that of Kubernetes, and those of the API groups that are watched.
type clients struct {
	*clientset.Clientset
	groups map[string]cache.Getter
}

// clients tells connecting of every address that they connect to.
func (o Options) clients(connecting func(netip.Addr)) (clients, error) {
	config, err := o.config()
	if err != nil {
		return clients{}, err
	}
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &traced{next, connecting} })
	set, err := clientset.NewForConfig(config)
	if err != nil {
		return clients{}, fmt.Errorf("make a client for the API server %s: %w", config.Host, err)
	}
	// What a CustomResourceDefinition defines comes as JSON only.
	imports := rest.CopyConfig(config)
	imports.ContentType = runtime.ContentTypeJSON
	multicluster, err := mcsclient.NewForConfig(imports)
	if err != nil {
		return clients{}, fmt.Errorf("make a client of ServiceImports for the API server %s: %w", config.Host, err)
	}
	return clients{set, map[string]cache.Getter{
		corev1.GroupName:       set.CoreV1().RESTClient(),
		discoveryv1.GroupName:  set.DiscoveryV1().RESTClient(),
		networkingv1.GroupName: set.NetworkingV1().RESTClient(),
		mcsv1alpha1.GroupName:  multicluster.RESTClient(),
	}}, nil
}

func (o Options) config() (*rest.Config, error) {
	config, err := o.place()
	if err != nil {
		return nil, err
	}
	config.ContentType = runtime.ContentTypeProtobuf
	config.UserAgent = "clusterip"
	config.WarningHandler = rest.NoWarnings{}
	if o.QPS > 0 {
		config.QPS = o.QPS
	}
	if config.Burst = o.Burst; o.Burst == 0 && o.QPS > 0 {
		config.Burst = rest.DefaultBurst // which client-go leaves out where a QPS is given
	}
	if o.MaxInflight > 0 {
		slots := make(chan struct{}, o.MaxInflight)
		config.Wrap(func(next http.RoundTripper) http.RoundTripper { return &inflight{next, slots} })
	}
	return config, nil
}

// place returns where the API server is and how to prove to it who we are.
func (o Options) place() (*rest.Config, error) {
	if o.Kubeconfig != "" {
		rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: o.Kubeconfig}
		overrides := &clientcmd.ConfigOverrides{CurrentContext: o.Context}
		config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig %s: %w", o.Kubeconfig, err)
		}
		return config, nil
	}
	if servers := strings.Fields(o.Endpoint); len(servers) > 0 {
		config := &rest.Config{
			Host:            servers[0],
			TLSClientConfig: rest.TLSClientConfig{CertFile: o.CertFile, KeyFile: o.KeyFile, CAFile: o.CAFile},
		}
		if len(servers) == 1 {
			return config, nil
		}
		return config, failOver(config, servers)
	}
	config, err := rest.InClusterConfig()
	if errors.Is(err, rest.ErrNotInCluster) {
		return nil, errors.New("nothing says what to read, and this is no pod of a cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set): name an API server with kubeconfig FILE or endpoint URL, or a folder of YAML with manifests DIR")
	}
	if err != nil {
		return nil, fmt.Errorf("find the API server of this cluster: %w", err)
	}
	return config, nil
}

// inflight bounds how many requests wait for their answer to begin. A watch counts
// until then only.
type inflight struct {
	next  http.RoundTripper
	slots chan struct{}
}

// RoundTrip implements http.RoundTripper.
func (f *inflight) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case f.slots <- struct{}{}:
		defer func() { <-f.slots }()
		return f.next.RoundTrip(r)
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}
