package kubernetes

import (
	"fmt"
	"maps"
)

// objects are sound, and between them have every field that names or NAT read.
var objects = []object{
	{name: "ClusterIP", fields: serviceFields, manifest: `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.43.7.1
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}, {name: second, port: 81, protocol: UDP}]
`},
	{name: "headless", fields: serviceFields, manifest: `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 80}]}
`},
	{name: "headless without selector", fields: serviceFields, manifest: `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: None}
`},
	{name: "NodePort", fields: serviceFields, manifest: `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  ports: [{name: http, port: 80, nodePort: 30080}, {name: second, port: 80, protocol: UDP, nodePort: 30081}]
`},
	{name: "LoadBalancer", fields: serviceFields, manifest: `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 30999
  loadBalancerSourceRanges: [192.0.2.0/24]
  ports: [{port: 80, nodePort: 30080}]
`},
	{name: "ExternalName", fields: serviceFields, manifest: `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {type: ExternalName, externalName: www.example.com}
`},
	{name: "dual-stack", fields: serviceFields, manifest: `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.43.7.1
  clusterIPs: [10.43.7.1, "fd00:10:43::7:1"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  ports: [{port: 80}]
`},
	{name: "externalIPs", fields: serviceFields, manifest: `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  externalIPs: [192.0.2.7]
  externalTrafficPolicy: Local
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  ports: [{port: 80}]
`},
	{name: "load balancer's status", status: true, fields: ingressFields, manifest: `
apiVersion: v1
kind: Service
metadata: {name: balanced, namespace: shop}
spec: {type: LoadBalancer, ports: [{port: 80}]}
`},
	{name: "ClusterIP's status", status: true, fields: ingressFields, manifest: `
apiVersion: v1
kind: Service
metadata: {name: unbalanced, namespace: shop}
spec: {ports: [{port: 80}]}
`},
	{name: "IPv4", fields: sliceFields, manifest: `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: second, port: 8081, protocol: UDP}]
endpoints:
- {addresses: [10.42.0.7], nodeName: node-1, zone: east, hostname: web-0, hints: {forZones: [{name: east}], forNodes: [{name: node-1}]}}
`},
	{name: "IPv6", fields: sliceFields, manifest: `
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{port: 8080}]
endpoints: [{addresses: ["fd00::7"]}]
`},
	{name: "ready", fields: endpointsFields, manifest: `
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: shop}
subsets:
- ports: [{name: http, port: 8080}, {name: second, port: 8081, protocol: UDP}]
  addresses: [{ip: 10.42.0.7, nodeName: node-1, hostname: web-0}]
  notReadyAddresses: [{ip: 10.42.0.8}]
`},
	{name: "one port", fields: endpointsFields, manifest: `
apiVersion: v1
kind: Endpoints
metadata: {name: web, namespace: shop}
subsets: [{ports: [{port: 8080}], addresses: [{ip: "fd00::7"}]}]
`},
	{name: "created", fields: podFields, manifest: `
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop, labels: {app: web}}
spec:
  nodeName: node-1
  hostname: web-0
  subdomain: web
  initContainers: [{name: proxy, image: i, restartPolicy: Always, ports: [{name: proxy, containerPort: 9090}]}]
  containers: [{name: web, image: i, ports: [{name: http, containerPort: 8080}, {name: second, containerPort: 8081, protocol: UDP}]}]
`},
	{name: "status", status: true, fields: podStatusFields, manifest: `
apiVersion: v1
kind: Pod
metadata: {name: running, namespace: shop, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: web, image: i}]}
`},
	{name: "created", fields: nodeFields, manifest: `
apiVersion: v1
kind: Node
metadata: {name: node-1, labels: {topology.kubernetes.io/zone: east}}
spec: {podCIDRs: [10.42.0.0/24, "fd00:10:42::/80"]}
`},
	{name: "status", status: true, fields: nodeStatusFields, manifest: `
apiVersion: v1
kind: Node
metadata: {name: node-2}
`},
}

// withMetadata adds the fields of all objects to those of a kind.
func withMetadata(fields map[string][]any) map[string][]any {
	all := map[string][]any{
		"metadata.name":        append(wrongTypes, names...),
		"metadata.labels":      append(wrongTypes, labelKeys...),
		"metadata.annotations": append(wrongTypes, annotations...),
	}
	maps.Copy(all, fields)
	return all
}

func serviceTypes() []any { return enum("ClusterIP", "NodePort", "LoadBalancer", "ExternalName") }

var serviceFields = withMetadata(map[string][]any{
	"spec.type":         serviceTypes(),
	"spec.externalName": append(names, "www.example.com", "www.example.com.", "WWW.example.com", "www.example.com..", ".", "192.0.2.1"),
	"spec.selector":     append(wrongTypes, labelKeys...),

	"spec.clusterIP": ips,
	"spec.clusterIPs": values([]any{"10.43.7.1"}, []any{"None"}, []any{"10.43.7.1", "fd00:10:43::7:1"}, []any{"fd00:10:43::7:1", "10.43.7.1"}, []any{"10.43.7.1", "10.43.7.2"},
		[]any{"10.43.7.1", "None"}, []any{"None", "None"}, []any{"10.43.7.2"}, []any{""}, []any{"10.43.7.1", ""}, []any{"10.43.7.1", "fd00:10:43::7:1", "10.43.7.2"}, []any{"10.44.0.1"}, []any{}, nil, "10.43.7.1", absent{}),
	"spec.ipFamilies":     families,
	"spec.ipFamilyPolicy": enum("SingleStack", "PreferDualStack", "RequireDualStack"),

	"spec.ports":              append(wrongTypes, []any{}, nil, absent{}, []any{nil}, many(3, func(i int) any { return map[string]any{"port": 80 + i, "name": fmt.Sprintf("p%d", i)} })),
	"spec.ports.0.name":       portNames,
	"spec.ports.0.protocol":   protocols,
	"spec.ports.0.port":       append(ports, 81),
	"spec.ports.0.targetPort": targetPorts,
	"spec.ports.0.nodePort":   append(nodePorts, 30081, 30999),
	"spec.ports.1": values(map[string]any{"name": "b", "port": 80}, map[string]any{"name": "b", "port": 80, "protocol": "TCP"}, map[string]any{"name": "b", "port": 80, "protocol": "UDP"},
		map[string]any{"name": "http", "port": 82}, map[string]any{"name": "b", "port": 82, "nodePort": 30080}, map[string]any{"name": "b", "port": 82, "protocol": "UDP", "nodePort": 30080}, map[string]any{"port": 82}, nil),

	"spec.sessionAffinity":                                     enum("None", "ClientIP"),
	"spec.sessionAffinityConfig":                               values(map[string]any{}, map[string]any{"clientIP": nil}, map[string]any{"clientIP": map[string]any{}}, nil, 5),
	"spec.sessionAffinityConfig.clientIP.timeoutSeconds":       values(-1, 0, 1, 10800, 86400, 86401, "60", nil),
	"spec.externalIPs":                                         append(wrongTypes, []any{}, []any{"192.0.2.8", "2001:db8::8"}, []any{"192.0.2.8", "192.0.2.8"}, nil),
	"spec.externalIPs.0":                                       ips,
	"spec.externalTrafficPolicy":                               trafficPolicies,
	"spec.internalTrafficPolicy":                               trafficPolicies,
	"spec.healthCheckNodePort":                                 append(nodePorts, 30080, 30081),
	"spec.trafficDistribution":                                 enum("PreferClose", "PreferSameZone", "PreferSameNode"),
	"spec.loadBalancerSourceRanges":                            append(wrongTypes, []any{}, []any{"192.0.2.0/24", "2001:db8::/32"}, nil),
	"spec.loadBalancerSourceRanges.0":                          cidrs,
	"spec.publishNotReadyAddresses":                            values(true, false, "true", nil),
	"metadata.annotations.service~kubernetes~io/topology-mode": values("Auto", "auto", "Disabled", "any", ""),
	"metadata.annotations": append(annotations,
		map[string]any{"service.kubernetes.io/topology-mode": "Auto", "service.kubernetes.io/topology-aware-hints": "Auto"},
		map[string]any{"service.kubernetes.io/topology-mode": "Auto", "service.kubernetes.io/topology-aware-hints": "Disabled"}),
})

var ingressFields = map[string][]any{
	"status.loadBalancer.ingress":            append(wrongTypes, []any{}, []any{map[string]any{}}, nil),
	"status.loadBalancer.ingress.0.ip":       ips,
	"status.loadBalancer.ingress.0.hostname": append(names, "lb.example.com", "lb.example.com.", "LB.example.com", "192.0.2.1", "2001:db8::1"),
	"status.loadBalancer.ingress.0.ipMode":   enum("VIP", "Proxy"),
	"status.loadBalancer.ingress.0": values(map[string]any{"ip": "192.0.2.1", "ipMode": "VIP"}, map[string]any{"ip": "192.0.2.1", "ipMode": "Proxy"}, map[string]any{"ip": "192.0.2.1", "ipMode": "vip"}, map[string]any{"ip": "192.0.2.1", "ipMode": ""},
		map[string]any{"ip": "192.0.2.1", "hostname": "lb.example.com"}, map[string]any{"ip": "192.0.2.1", "hostname": "lb_example"}, map[string]any{"ip": "192.0.2.1", "hostname": "192.0.2.1"}, map[string]any{"hostname": "lb.example.com", "ipMode": "VIP"}),
}

var sliceFields = withMetadata(map[string][]any{
	"metadata.labels":                    append(values(5, true, []any{"a"}), ofService(labelKeys)...),
	"addressType":                        enum("IPv4", "IPv6", "FQDN"),
	"ports":                              append(wrongTypes, []any{}, nil, absent{}, []any{map[string]any{}}, many(20001, func(i int) any { return map[string]any{"port": 1 + i, "name": fmt.Sprintf("p%d", i)} })),
	"ports.0.name":                       portNames,
	"ports.0.protocol":                   protocols,
	"ports.0.port":                       ports,
	"endpoints":                          append(wrongTypes, []any{}, nil, absent{}),
	"endpoints.0.addresses":              append(wrongTypes, []any{}, nil, absent{}, []any{"10.42.0.7", "10.42.0.8"}, many(100, address), many(101, address)),
	"endpoints.0.addresses.0":            ips,
	"endpoints.0.nodeName":               names,
	"endpoints.0.zone":                   append(wrongTypes, names...),
	"endpoints.0.hostname":               names,
	"endpoints.0.conditions.ready":       values(true, false, "true", nil),
	"endpoints.0.conditions.serving":     values(true, false, "true", nil),
	"endpoints.0.conditions.terminating": values(true, false, "true", nil),
	"endpoints.0.hints":                  append(wrongTypes, map[string]any{}, nil),
	"endpoints.0.hints.forZones":         append(wrongTypes, []any{}, many(8, named), many(9, named), []any{named(1), named(1)}, nil),
	"endpoints.0.hints.forNodes":         append(wrongTypes, []any{}, many(8, named), many(9, named), []any{named(1), named(1)}, nil),
	"endpoints.0.hints.forZones.0.name":  names,
	"endpoints.0.hints.forNodes.0.name":  names,
	"endpoints.0.targetRef":              append(wrongTypes, map[string]any{"kind": "Pod", "name": "web-0"}, map[string]any{"kind": "Pod", "name": "Not a name"}, map[string]any{}, nil),
})

// ofService adds to labels what makes them those of an EndpointSlice.
func ofService(all []any) (out []any) {
	for _, labels := range all {
		if labels, is := labels.(map[string]any); is {
			labels = maps.Clone(labels)
			labels["kubernetes.io/service-name"] = "web"
			out = append(out, labels)
		}
	}
	return out
}

func address(i int) any { return fmt.Sprintf("10.42.1.%d", i+1) }

var endpointsFields = withMetadata(map[string][]any{
	"subsets":                        append(wrongTypes, []any{}, nil, absent{}, []any{map[string]any{}}),
	"subsets.0.ports":                append(wrongTypes, []any{}, nil, absent{}),
	"subsets.0.ports.0.name":         portNames,
	"subsets.0.ports.0.protocol":     protocols,
	"subsets.0.ports.0.port":         ports,
	"subsets.0.addresses":            append(wrongTypes, []any{}, nil, absent{}),
	"subsets.0.addresses.0.ip":       ips,
	"subsets.0.addresses.0.hostname": names,
	"subsets.0.addresses.0.nodeName": names,
	"subsets.0.notReadyAddresses":    append(wrongTypes, []any{}, nil, absent{}),
	"subsets.0.notReadyAddresses.0":  values(map[string]any{}, field("ip", "127.0.0.1"), field("ip", "fd00::8"), nil),
})

var podFields = withMetadata(map[string][]any{
	"spec.nodeName":                               names,
	"spec.hostname":                               names,
	"spec.subdomain":                              names,
	"spec.containers.0.ports":                     append(wrongTypes, []any{}, nil),
	"spec.containers.0.ports.0.name":              portNames,
	"spec.containers.0.ports.0.protocol":          protocols,
	"spec.containers.0.ports.0.containerPort":     ports,
	"spec.containers.0.ports.0":                   values(map[string]any{"containerPort": 0}, map[string]any{"containerPort": 70000}, map[string]any{"containerPort": 80, "protocol": "tcp"}),
	"spec.initContainers.0.ports.0.name":          portNames,
	"spec.initContainers.0.ports.0.protocol":      protocols,
	"spec.initContainers.0.ports.0.containerPort": ports,
	"spec.initContainers.0.restartPolicy":         enum("Always"),
})

var podStatusFields = map[string][]any{
	"status.podIP": ips,
	"status.podIPs": append(wrongTypes, []any{}, []any{field("ip", "10.42.0.7")}, []any{field("ip", "10.42.0.7"), field("ip", "fd00::7")}, []any{field("ip", "fd00::7"), field("ip", "10.42.0.7")},
		[]any{field("ip", "10.42.0.7"), field("ip", "10.42.0.8")}, []any{field("ip", "10.42.0.7"), field("ip", "10.42.0.7")}, []any{field("ip", "10.42.0.7"), field("ip", "fd00::7"), field("ip", "fd00::8")},
		[]any{field("ip", "10.42.0.7"), field("ip", "fd00::7"), field("ip", "10.42.0.7")}, nil),
	"status.podIPs.0.ip": ips,
	"status": values(map[string]any{"podIP": "10.42.0.7", "podIPs": []any{field("ip", "10.42.0.7")}}, map[string]any{"podIP": "10.42.0.7", "podIPs": []any{field("ip", "10.42.0.8")}},
		map[string]any{"podIP": "10.42.0.7", "podIPs": []any{field("ip", "10.42.0.8"), field("ip", "10.42.0.9")}}, map[string]any{"podIP": "10.42.0.7", "podIPs": []any{}},
		map[string]any{"phase": "Succeeded", "podIPs": []any{field("ip", "10.42.0.8"), field("ip", "10.42.0.9")}}, map[string]any{}, nil),
	"status.phase":             enum("Pending", "Running", "Succeeded", "Failed", "Unknown"),
	"status.conditions":        append(wrongTypes, []any{}, nil, []any{map[string]any{"type": "Ready", "status": "True"}}, []any{map[string]any{"type": "Ready", "status": "False"}, map[string]any{"type": "Ready", "status": "True"}}),
	"status.conditions.0.type": enum("Ready", "PodScheduled", "example.com/ready"),
	"status.conditions.0":      values(map[string]any{"type": "Ready", "status": "true"}, map[string]any{"type": "Ready", "status": ""}, map[string]any{"type": "Ready"}, map[string]any{"type": "Ready", "status": true}),
}

var nodeFields = withMetadata(map[string][]any{
	"spec.podCIDR": cidrs,
	"spec.podCIDRs": append(wrongTypes, []any{}, nil, []any{"10.42.0.0/24"}, []any{"fd00:10:42::/80", "10.42.0.0/24"}, []any{"10.42.0.0/24", "10.42.1.0/24"}, []any{"fd00::/80", "fd01::/80"},
		[]any{"10.42.0.0/24", "fd00::/80", "10.42.1.0/24"}, []any{"10.42.0.0/24", "nothing"}),
	"spec.podCIDRs.0": cidrs,
})

var nodeStatusFields = map[string][]any{
	"status.addresses":           append(wrongTypes, []any{}, nil, []any{internal("192.0.2.1"), internal("192.0.2.2")}, []any{internal("192.0.2.1"), internal("192.0.2.1")}),
	"status.addresses.0.address": ips,
	"status.addresses.0":         append(values(internal("nowhere"), internal("")), many(len(ips)-2, func(i int) any { return internal(ips[i]) })...),
}

func internal(address any) any { return map[string]any{"type": "InternalIP", "address": address} }
