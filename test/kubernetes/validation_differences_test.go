package kubernetes

// special are addresses that every machine has, or that stand for many.
var special = values("127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "239.1.1.1", "255.255.255.255", "::1", "::", "fe80::1", "ff02::1", "ff05::1")

// multicast are those of them that the API server takes for an endpoint or an external address.
var multicast = values("239.1.1.1", "255.255.255.255", "ff05::1")

const (
	notRead    = "neither names nor NAT read this field here"
	unreadable = "packets cannot go there, or would be somebody else's: the author of a folder can mend it"
	portRange  = "the range of NodePorts is a setting of the API server; the folder has none, and tells in a notice what a port outside the usual one means"
)

// differences are what the folder judges otherwise than the API server of Kubernetes 1.37,
// and why. docs/operations.md tells of them.
var differences = []difference{
	// The folder refuses more.
	{kind: "Service", field: "spec.externalIPs.0", folder: refuses, values: multicast, why: unreadable},
	{kind: "Service", field: "status.loadBalancer.ingress.0.ip", folder: refuses, values: special, why: unreadable},
	{kind: "EndpointSlice", field: "endpoints.0.addresses.0", folder: refuses, values: multicast, why: unreadable},
	{kind: "EndpointSlice", field: "addressType", folder: refuses, values: values("FQDN"), why: "no proxy and no DNS server serves such endpoints"},
	{kind: "EndpointSlice", field: "ports.0.port", folder: refuses, why: "no packet has such a port; the API server does not look at it"},
	{kind: "Endpoints", field: "subsets.0.addresses.0.ip", folder: refuses, values: multicast, why: unreadable},
	{kind: "Pod", field: "status.podIP*", folder: refuses, values: special, why: unreadable},
	{kind: "Pod", field: "status.conditions.0", folder: refuses, why: "a condition Ready whose status is mistyped may be meant to be True"},
	{kind: "Pod", field: "status.conditions.0.type", folder: refuses, values: values("Ready"), why: "a condition Ready without a status may be meant to be True"},
	{kind: "Node", field: "status.addresses.0", folder: refuses, why: "an InternalIP that is no address is of no use; the API server does not look at it"},

	// The folder takes more.
	{kind: "Service", field: "spec.clusterIPs", folder: takes, values: values([]any{"10.43.7.1"}, []any{"10.43.7.2"}, []any{"None"}, []any{"10.43.7.1", "fd00:10:43::7:1"}, []any{"fd00:10:43::7:1", "10.43.7.1"}),
		why: "clusterIPs says it all; Kubernetes has its first entry in clusterIP too, for clients that are older than the list"},
	{kind: "Service", field: "spec.clusterIP", shapes: []string{"dual-stack"}, folder: takes, values: values("", nil, absent{}), why: "as for clusterIPs"},
	{kind: "Service", field: "spec.ports.0.nodePort", folder: takes, why: portRange},
	{kind: "Service", field: "spec.healthCheckNodePort", folder: takes, why: portRange},
	{kind: "Service", field: "spec.ports.1", shapes: []string{"NodePort"}, folder: takes, why: "NodePorts of two protocols are two; in the API server they share a number only where the ports do"},
	{kind: "Service", field: "spec.ports*", shapes: []string{"ExternalName"}, folder: takes, why: notRead},
	{kind: "Service", field: "spec.sessionAffinity", shapes: []string{"ExternalName"}, folder: takes, why: notRead},
	{kind: "Service", field: "spec.internalTrafficPolicy", shapes: []string{"ExternalName"}, folder: takes, why: notRead},
	{kind: "Service", field: "spec.externalIPs*", shapes: []string{"ExternalName", "headless", "headless without selector"}, folder: takes, why: notRead},
	{kind: "Pod", field: "spec.containers.0.ports.0", folder: takes, why: notRead + ": a port without a name is not looked for"},
	{kind: "Pod", field: "status.conditions.0.type", folder: takes, why: notRead + ": conditions other than Ready"},
}
