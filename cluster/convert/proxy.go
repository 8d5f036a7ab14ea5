package convert

import (
	"github.com/clusterip/clusterip/cluster"
	corev1 "k8s.io/api/core/v1"
)

// serviceProxyName is the label that asks for another proxy (Kubernetes'
// pkg/proxy/apis has it).
const serviceProxyName = "service.kubernetes.io/service-proxy-name"

// proxy reads who is to serve a Service. That a label is there counts, whatever its
// value.
func proxy(labels map[string]string) cluster.Proxy {
	if namesOnly(labels) {
		return cluster.NoProxy()
	}
	if name, named := labels[serviceProxyName]; named {
		return cluster.NamedProxy(name)
	}
	return cluster.Proxy{}
}

// namesOnly reports whether proxies leave an object alone.
func namesOnly(labels map[string]string) bool {
	_, is := labels[corev1.IsHeadlessService]
	return is
}
