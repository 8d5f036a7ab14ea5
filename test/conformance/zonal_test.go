package conformance

import (
	"testing"

	"github.com/clusterip/clusterip/test/kubetest"
)

const zonedEndpoints = `
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, ports: [{name: sql, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 5432}]
endpoints:
  - {addresses: [10.42.0.7], hostname: db-0, zone: eu.north, conditions: {ready: true}}
  - {addresses: [10.42.0.8], hostname: db-1, zone: west, conditions: {ready: true}}
---
apiVersion: v1
kind: Service
metadata: {name: idle, namespace: shop}
spec: {clusterIP: 10.43.0.9, ports: [{port: 80}]}
`

// The options zonal and ignore empty_service, as CoreDNS's plugin has them.
func TestZonalAndEmptyServices(t *testing.T) {
	s := startServer(t, kubetest.FreePort(t), `cluster.local in-addr.arpa {
    bind 127.0.0.1
    clusterip {
        manifests manifests
        zonal
        ignore empty_service
    }
}`)
	s.put(t, "all.yaml", zonedEndpoints)
	const db = ".db.shop.svc.cluster.local."
	s.eventually(t, "db.shop.svc.cluster.local A", "db.shop.svc.cluster.local. 5 IN A 10.42.0.7")
	for _, c := range []testCase{
		{"eu.north.pin._zone" + db + " A", "NOERROR qr aa rd\neu.north.pin._zone" + db + " 5 IN A 10.42.0.7"},
		{"west.prefer._zone" + db + " SRV", "NOERROR qr aa rd\nwest.prefer._zone" + db + " 5 IN SRV 0 100 5432 db-1" + db + "\nadditional\ndb-1" + db + " 5 IN A 10.42.0.8"},
		{"east.prefer._zone" + db + " A", "NOERROR qr aa rd\neast.prefer._zone" + db + " 5 IN A 10.42.0.7\neast.prefer._zone" + db + " 5 IN A 10.42.0.8"},
		{"east.pin._zone" + db + " A", noData},
		{"west.pin._zone" + db + " HTTPS", noData},
		{"west.near._zone" + db + " A", nxDomain},
		{"west.pin._zone.idle.shop.svc.cluster.local. A", nxDomain},
		{"idle.shop.svc.cluster.local A", nxDomain},
		{"-x 10.43.0.9", "NOERROR qr aa rd\n9.0.43.10.in-addr.arpa. 5 IN PTR idle.shop.svc.cluster.local."},
	} {
		if got := s.dig(c.query).String(); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.query, got, c.want)
		}
	}
}
