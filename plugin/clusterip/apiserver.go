package clusterip

import (
	"errors"
	"net/netip"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/kubernetes"
)

// apiServer is the origin of objects that a Kubernetes API server has.
type apiServer struct{ options kubernetes.Options }

// newAPIServer warns of a second feed of one server that differs in the limits of
// requests alone: it reads and keeps everything a second time.
func newAPIServer(own *server, o kubernetes.Options) (*apiServer, error) {
	a := &apiServer{o}
	for _, f := range feeds.byKey {
		other, ok := f.origin.(*apiServer)
		if ok && f.users[own] != nil && unlimited(other.options) == unlimited(o) {
			log.Warningf("%s is read once more, since apiserver_qps, apiserver_burst or apiserver_max_inflight differ between server blocks: make them the same", a)
		}
	}
	if o.Kubeconfig == "" && o.Endpoint == "" {
		return a, nil // coredns check is not run in the pod that the Corefile is for
	}
	// It is made again when it is to run. Here an error has its line in the
	// Corefile.
	_, err := a.open(needs{})
	return a, err
}

func unlimited(o kubernetes.Options) kubernetes.Options {
	o.QPS, o.Burst, o.MaxInflight = 0, 0, 0
	return o
}

// String implements origin.
func (a *apiServer) String() string {
	switch {
	case a.options.Kubeconfig != "":
		return "the API server of " + a.options.Kubeconfig
	case a.options.Endpoint != "":
		return "the API server " + a.options.Endpoint
	}
	return "the API server"
}

// accept implements origin.
func (a *apiServer) accept(n needs) (needs, error) {
	if n.node == "" {
		return n, nil
	}
	return n, (&Options{API: a.options}).SuitNAT()
}

// SuitNAT returns why kernelnat cannot be in the same server block, or nil. NAT for
// some of the Services would take the rules of the others for leftovers.
func (o *Options) SuitNAT() error {
	if o.API.NoEndpoints || o.API.Labels != "" || o.API.NamespaceLabels != "" {
		return errors.New("kernelnat needs every Service with its endpoints: move labels, namespace_labels and noendpoints to a server block without kernelnat, or remove them")
	}
	return nil
}

// open implements origin.
func (a *apiServer) open(n needs) (source, error) {
	o := a.options
	o.Pods, o.PodsNode, o.PodNames, o.Imports, o.Node = n.pods, n.podsNode, n.podNames, n.imports, n.node
	return kubernetes.New(o, reportTrouble)
}

// close implements origin.
func (a *apiServer) close() {}

func reportTrouble(place string, err error) {
	switch {
	case err == nil:
		log.Infof("%s: well again", place)
	case errors.Is(err, kubernetes.ErrGoingOn):
		log.Warningf("%s: %v", place, err)
	default:
		log.Errorf("%s: %v", place, err)
	}
}

// warn makes an Event, if there is an API server to take it.
func (f *feed) warn(service cluster.ServiceName, reason, text string) {
	f.tell(func(api *kubernetes.Source) { api.Warn(service, reason, text) })
}

// warnRange is warn about a range of ClusterIPs.
func (f *feed) warnRange(cidr netip.Prefix, reason, text string) {
	f.tell(func(api *kubernetes.Source) { api.WarnRange(cidr, reason, text) })
}

func (f *feed) tell(to func(*kubernetes.Source)) {
	feeds.Lock()
	defer feeds.Unlock()
	if f.newest() == nil {
		return
	}
	if api, ok := f.newest().source.(*kubernetes.Source); ok {
		to(api)
	}
}

// watches returns those of all feeds.
func watches() []kubernetes.Watch {
	feeds.Lock()
	defer feeds.Unlock()
	var all []kubernetes.Watch
	for _, f := range feeds.byKey {
		for _, r := range []*running{f.current, f.coming} {
			if r == nil {
				continue
			}
			if api, ok := r.source.(*kubernetes.Source); ok {
				all = append(all, api.Watches()...)
			}
		}
	}
	return all
}
