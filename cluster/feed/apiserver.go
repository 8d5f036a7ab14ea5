package feed

import (
	"errors"

	"github.com/clusterip/clusterip/cluster/kubernetes"
	"github.com/clusterip/clusterip/cluster/manifest"
)

// APIServer is the Origin of objects that a Kubernetes API server has. What is needed
// of it beyond Services is not for its options to say.
func APIServer(o kubernetes.Options) Origin { return apiServer{o} }

type apiServer struct{ options kubernetes.Options }

// String implements Origin.
func (a apiServer) String() string {
	switch {
	case a.options.Kubeconfig != "":
		return "the API server of " + a.options.Kubeconfig
	case a.options.Endpoint != "":
		return "the API server " + a.options.Endpoint
	}
	return "the API server"
}

// Accept implements Origin. NAT for some of the Services would take the rules of the
// others for leftovers.
func (a apiServer) Accept(n Needs) (Needs, error) {
	if o := a.options; n.Node != "" && (o.NoEndpoints || o.Labels != "" || o.NamespaceLabels != "") {
		return n, errors.New("kernelnat needs every Service with its endpoints: move labels, namespace_labels and noendpoints to a server block without kernelnat, or remove them")
	}
	return n, nil
}

func (a apiServer) key() any       { return a.options }
func (a apiServer) hasNodes() bool { return true }

// present implements Origin. The API server has refused what has faults.
func (a apiServer) present() []manifest.Problem { return nil }
func (a apiServer) close()                      {}

// beside implements Origin. Limits of requests that differ alone have everything read
// and kept a second time.
func (a apiServer) beside(other Origin, log Logger) error {
	if o, ok := other.(apiServer); ok && unlimited(o.options) == unlimited(a.options) {
		log.Warningf("%s is read once more, since apiserver_qps, apiserver_burst or apiserver_max_inflight differ between server blocks: make them the same", a)
	}
	return nil
}

func unlimited(o kubernetes.Options) kubernetes.Options {
	o.QPS, o.Burst, o.MaxInflight = 0, 0, 0
	return o
}

// check implements Origin. A Corefile may be checked outside the pod that it is for.
func (a apiServer) check() error {
	if a.options.Kubeconfig == "" && a.options.Endpoint == "" {
		return nil
	}
	_, err := a.open(Needs{}, nil)
	return err
}

// open implements Origin.
func (a apiServer) open(n Needs, log Logger) (source, error) {
	o := a.options
	o.Pods, o.PodsNode, o.PodNames, o.Imports, o.Node = n.Pods, n.PodsNode, n.PodNames, n.Imports, n.Node
	return kubernetes.New(o, func(place string, err error) { reportTrouble(log, place, err) })
}

func reportTrouble(log Logger, place string, err error) {
	switch {
	case err == nil:
		log.Infof("%s: well again", place)
	case errors.Is(err, kubernetes.ErrGoingOn):
		log.Warningf("%s: %v", place, err)
	default:
		log.Errorf("%s: %v", place, err)
	}
}
