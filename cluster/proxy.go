package cluster

// Proxy says which of the cluster's service proxies is to serve a Service. The zero
// value is the default one. Values compare with ==.
type Proxy struct {
	kind proxyKind
	name string
}

type proxyKind uint8

const (
	defaultProxy proxyKind = iota
	namedProxy
	noProxy
)

// NamedProxy is the proxy for Services whose label
// service.kubernetes.io/service-proxy-name has this value, which may be empty.
func NamedProxy(name string) Proxy { return Proxy{namedProxy, name} }

// NoProxy is for Services that every proxy leaves alone.
func NoProxy() Proxy { return Proxy{kind: noProxy} }

// Equal is ==, for comparisons that look for the method (go-cmp).
func (p Proxy) Equal(o Proxy) bool { return p == o }
