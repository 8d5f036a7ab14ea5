package conformance

import "testing"

// The sections are those of the Kubernetes DNS-Based Service Discovery
// specification, version 1.1.0.

func TestSpec_2_1_ComparisonsIgnoreCase(t *testing.T) {
	runCases(t, []testCase{
		{"WEB.Testing.svc.cluster.LOCAL A", `
NOERROR qr aa rd
WEB.Testing.svc.cluster.LOCAL. 5 IN A 10.43.0.10`},
		{"DNS-Version.cluster.local TXT", `
NOERROR qr aa rd
DNS-Version.cluster.local. 28800 IN TXT "1.1.0"`},
	})
}

func TestSpec_2_2_SchemaVersion(t *testing.T) {
	runCases(t, []testCase{
		{"dns-version.cluster.local TXT", `
NOERROR qr aa rd
dns-version.cluster.local. 28800 IN TXT "1.1.0"`},
		{"dns-version.cluster.local A", noData},
	})
}

func TestSpec_2_3_1_ClusterIPAddresses(t *testing.T) {
	runCases(t, []testCase{
		{"web.testing.svc.cluster.local A", `
NOERROR qr aa rd
web.testing.svc.cluster.local. 5 IN A 10.43.0.10`},
		{"web.testing.svc.cluster.local AAAA", noData},
		{"dual.testing.svc.cluster.local AAAA", `
NOERROR qr aa rd
dual.testing.svc.cluster.local. 5 IN AAAA fd00:43::11`},
	})
}

func TestSpec_2_3_2_ClusterIPServices(t *testing.T) {
	runCases(t, []testCase{
		{"_http._tcp.web.testing.svc.cluster.local SRV", `
NOERROR qr aa rd
_http._tcp.web.testing.svc.cluster.local. 5 IN SRV 0 100 80 web.testing.svc.cluster.local.
additional
web.testing.svc.cluster.local. 5 IN A 10.43.0.10`},
		{"_dns._udp.dual.testing.svc.cluster.local SRV", `
NOERROR qr aa rd
_dns._udp.dual.testing.svc.cluster.local. 5 IN SRV 0 50 53 dual.testing.svc.cluster.local.
additional
dual.testing.svc.cluster.local. 5 IN A 10.43.0.11
dual.testing.svc.cluster.local. 5 IN AAAA fd00:43::11`},
		// The name without a port has all ports, as CoreDNS serves it.
		{"web.testing.svc.cluster.local SRV", `
NOERROR qr aa rd
web.testing.svc.cluster.local. 5 IN SRV 0 50 443 web.testing.svc.cluster.local.
web.testing.svc.cluster.local. 5 IN SRV 0 50 80 web.testing.svc.cluster.local.
additional
web.testing.svc.cluster.local. 5 IN A 10.43.0.10`},
		{"_http._udp.web.testing.svc.cluster.local SRV", nxDomain},
		{"_ftp._tcp.web.testing.svc.cluster.local SRV", nxDomain},
	})
}

// Section 3 lets an implementation add to the schema; these names are CoreDNS's.
func TestSpec_3_Ports(t *testing.T) {
	runCases(t, []testCase{
		{"_http._tcp.web.testing.svc.cluster.local A", `
NOERROR qr aa rd
_http._tcp.web.testing.svc.cluster.local. 5 IN A 10.43.0.10`},
		{"_http._tcp.web.testing.svc.cluster.local TXT", noData},
		{"_postgres._tcp.db.testing.svc.cluster.local AAAA", `
NOERROR qr aa rd
_postgres._tcp.db.testing.svc.cluster.local. 5 IN AAAA fd00:42::70`},
		{"http.tcp.web.testing.svc.cluster.local A", `
NOERROR qr aa rd
http.tcp.web.testing.svc.cluster.local. 5 IN A 10.43.0.10`},
		{"postgres.tcp.db.testing.svc.cluster.local SRV", `
NOERROR qr aa rd
postgres.tcp.db.testing.svc.cluster.local. 5 IN SRV 0 25 5432 10-42-1-72.db.testing.svc.cluster.local.
postgres.tcp.db.testing.svc.cluster.local. 5 IN SRV 0 25 5432 db-0.db.testing.svc.cluster.local.
postgres.tcp.db.testing.svc.cluster.local. 5 IN SRV 0 25 5432 db-1.db.testing.svc.cluster.local.
additional
10-42-1-72.db.testing.svc.cluster.local. 5 IN A 10.42.1.72
db-0.db.testing.svc.cluster.local. 5 IN A 10.42.0.70
db-0.db.testing.svc.cluster.local. 5 IN AAAA fd00:42::70
db-1.db.testing.svc.cluster.local. 5 IN A 10.42.1.71`},
		{"http.udp.web.testing.svc.cluster.local A", nxDomain},
		// An underscore alone is any port, unnamed ones too.
		{"_tcp.unnamed.testing.svc.cluster.local SRV", noData},
		{"_udp.unnamed.testing.svc.cluster.local SRV", nxDomain},
	})
}

func TestSpec_2_3_3_ClusterIPPointers(t *testing.T) {
	runCases(t, []testCase{
		{"-x 10.43.0.10", `
NOERROR qr aa rd
10.0.43.10.in-addr.arpa. 5 IN PTR web.testing.svc.cluster.local.`},
		{"-x fd00:43::11", `
NOERROR qr aa rd
1.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.3.4.0.0.0.0.d.f.ip6.arpa. 5 IN PTR dual.testing.svc.cluster.local.`},
		{"-x 10.43.0.99", "NXDOMAIN qr aa rd" + reverseSOA},
	})
}

func TestSpec_2_4_1_HeadlessAddresses(t *testing.T) {
	runCases(t, []testCase{
		{"db.testing.svc.cluster.local A", `
NOERROR qr aa rd
db.testing.svc.cluster.local. 5 IN A 10.42.0.70
db.testing.svc.cluster.local. 5 IN A 10.42.1.71
db.testing.svc.cluster.local. 5 IN A 10.42.1.72`},
		{"db.testing.svc.cluster.local AAAA", `
NOERROR qr aa rd
db.testing.svc.cluster.local. 5 IN AAAA fd00:42::70`},
		{"db-0.db.testing.svc.cluster.local A", `
NOERROR qr aa rd
db-0.db.testing.svc.cluster.local. 5 IN A 10.42.0.70`},
		{"db-0.db.testing.svc.cluster.local AAAA", `
NOERROR qr aa rd
db-0.db.testing.svc.cluster.local. 5 IN AAAA fd00:42::70`},
		{"10-42-1-72.db.testing.svc.cluster.local A", `
NOERROR qr aa rd
10-42-1-72.db.testing.svc.cluster.local. 5 IN A 10.42.1.72`},
		// An endpoint that is not ready has no name.
		{"db-3.db.testing.svc.cluster.local A", nxDomain},
		// When none is ready, those that still serve count.
		{"draining.testing.svc.cluster.local A", `
NOERROR qr aa rd
draining.testing.svc.cluster.local. 5 IN A 10.42.0.90`},
		{"deserted.testing.svc.cluster.local A", nxDomain},
	})
}

func TestSpec_2_4_2_HeadlessServices(t *testing.T) {
	runCases(t, []testCase{
		{"_postgres._tcp.db.testing.svc.cluster.local SRV", `
NOERROR qr aa rd
_postgres._tcp.db.testing.svc.cluster.local. 5 IN SRV 0 25 5432 10-42-1-72.db.testing.svc.cluster.local.
_postgres._tcp.db.testing.svc.cluster.local. 5 IN SRV 0 25 5432 db-0.db.testing.svc.cluster.local.
_postgres._tcp.db.testing.svc.cluster.local. 5 IN SRV 0 25 5432 db-1.db.testing.svc.cluster.local.
additional
10-42-1-72.db.testing.svc.cluster.local. 5 IN A 10.42.1.72
db-0.db.testing.svc.cluster.local. 5 IN A 10.42.0.70
db-0.db.testing.svc.cluster.local. 5 IN AAAA fd00:42::70
db-1.db.testing.svc.cluster.local. 5 IN A 10.42.1.71`},
		{"db-1.db.testing.svc.cluster.local SRV", `
NOERROR qr aa rd
db-1.db.testing.svc.cluster.local. 5 IN SRV 0 100 5432 db-1.db.testing.svc.cluster.local.
additional
db-1.db.testing.svc.cluster.local. 5 IN A 10.42.1.71`},
		{"_http._tcp.deserted.testing.svc.cluster.local SRV", nxDomain},
	})
}

func TestSpec_2_4_3_HeadlessPointers(t *testing.T) {
	runCases(t, []testCase{
		{"-x 10.42.0.70", `
NOERROR qr aa rd
70.0.42.10.in-addr.arpa. 5 IN PTR db-0.db.testing.svc.cluster.local.`},
		{"-x 10.42.1.72", `
NOERROR qr aa rd
72.1.42.10.in-addr.arpa. 5 IN PTR 10-42-1-72.db.testing.svc.cluster.local.`},
		{"-x 10.42.1.73", "NXDOMAIN qr aa rd" + reverseSOA},
	})
}

func TestSpec_2_5_ExternalName(t *testing.T) {
	runCases(t, []testCase{
		{"outside.testing.svc.cluster.local A", `
NOERROR qr aa rd
outside.testing.svc.cluster.local. 5 IN CNAME www.example.com.
www.example.com. 300 IN A 192.0.2.80`},
		{"outside.testing.svc.cluster.local AAAA", `
NOERROR qr aa rd
outside.testing.svc.cluster.local. 5 IN CNAME www.example.com.
www.example.com. 300 IN AAAA 2001:db8::80`},
		{"outside.testing.svc.cluster.local CNAME", `
NOERROR qr aa rd
outside.testing.svc.cluster.local. 5 IN CNAME www.example.com.`},
		{"outside.testing.svc.cluster.local TXT", `
NOERROR qr aa rd
outside.testing.svc.cluster.local. 5 IN CNAME www.example.com.
authority
example.com. 300 IN SOA ns.example.com. root.example.com. SERIAL 7200 1800 86400 60`},
		{"chain.testing.svc.cluster.local A", `
NOERROR qr aa rd
alias.example.com. 300 IN CNAME www.example.com.
chain.testing.svc.cluster.local. 5 IN CNAME alias.example.com.
www.example.com. 300 IN A 192.0.2.80`},
		{"inside.testing.svc.cluster.local A", `
NOERROR qr aa rd
inside.testing.svc.cluster.local. 5 IN CNAME web.testing.svc.cluster.local.
web.testing.svc.cluster.local. 5 IN A 10.43.0.10`},
		{"missing.testing.svc.cluster.local A", `
NXDOMAIN qr aa rd
missing.testing.svc.cluster.local. 5 IN CNAME nope.testing.svc.cluster.local.` + clusterSOA},
		{"gone.testing.svc.cluster.local A", `
NXDOMAIN qr aa rd
gone.testing.svc.cluster.local. 5 IN CNAME gone.example.com.
authority
example.com. 300 IN SOA ns.example.com. root.example.com. SERIAL 7200 1800 86400 60`},
		{"broken.testing.svc.cluster.local A", `
SERVFAIL qr aa rd
broken.testing.svc.cluster.local. 5 IN CNAME broken.example.com.`},
		{"refused.testing.svc.cluster.local A", `
NOERROR qr aa rd
refused.testing.svc.cluster.local. 5 IN CNAME www.example.org.`},
		{"loop.testing.svc.cluster.local A", noData},
	})
}

func TestSpec_2_6_PodNames(t *testing.T) {
	runCases(t, []testCase{
		{"10-42-0-7.testing.pod.cluster.local A", `
NOERROR qr aa rd
10-42-0-7.testing.pod.cluster.local. 5 IN A 10.42.0.7`},
		{"fd00-42--7.testing.pod.cluster.local AAAA", `
NOERROR qr aa rd
fd00-42--7.testing.pod.cluster.local. 5 IN AAAA fd00:42::7`},
		{"10-42-0-7.testing.pod.cluster.local AAAA", noData},
		{"10-42-0-7.testing.pod.cluster.local SRV", `
NOERROR qr aa rd
10-42-0-7.testing.pod.cluster.local. 5 IN SRV 0 100 0 10-42-0-7.testing.pod.cluster.local.
additional
10-42-0-7.testing.pod.cluster.local. 5 IN A 10.42.0.7`},
		{"10-42-0-8.testing.pod.cluster.local A", nxDomain},
		{"10-42-0-7.empty.pod.cluster.local A", nxDomain},
	})
}

// Section 3 lets an implementation add to the schema; these names are CoreDNS's.
func TestSpec_3_EndpointsOfClusterIP(t *testing.T) {
	runCases(t, []testCase{
		{"10-42-0-7.web.testing.svc.cluster.local A", `
NOERROR qr aa rd
10-42-0-7.web.testing.svc.cluster.local. 5 IN A 10.42.0.7`},
		{"-x 10.42.0.7", `
NOERROR qr aa rd
7.0.42.10.in-addr.arpa. 5 IN PTR 10-42-0-7.web.testing.svc.cluster.local.`},
	})
}
