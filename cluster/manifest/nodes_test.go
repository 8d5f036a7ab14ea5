package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

// Why topology-mode Auto cannot be, by the Nodes that there are.
func TestCapacity(t *testing.T) {
	const (
		good  = "- metadata: {name: %s, labels: {topology.kubernetes.io/zone: %s}}\n  status: {allocatable: {cpu: %s}, conditions: [{type: Ready, status: '%s'}]}\n"
		bare  = "- metadata: {name: bare}\n  status: {allocatable: {cpu: 1}, conditions: [{type: Ready, status: 'True'}]}\n"
		noCPU = "- metadata: {name: no-cpu, labels: {topology.kubernetes.io/zone: a}}\n  status: {conditions: [{type: Ready, status: 'True'}]}\n"
	)
	one := fmt.Sprintf(good, "one", "a", "1", "True")
	two := fmt.Sprintf(good, "two", "b", "3", "True")
	for _, test := range []struct {
		name, nodes string
		shares      []share
		unknown     string
	}{
		{"none", "", nil, "there are no Nodes here, whose zones and CPUs it goes by: write them"},
		{"two zones", one + two + fmt.Sprintf(good, "three", "b", "4000m", "True"), []share{{"a", 0.125}, {"b", 0.875}}, ""},
		{"one zone", one + fmt.Sprintf(good, "three", "a", "1", "True"), nil, "all Nodes that are ready are in zone a"},
		{"none ready", fmt.Sprintf(good, "three", "a", "1", "False"), nil, `no Node counts: that takes the condition Ready "True", and no role of a control plane`},
		{"no zone", one + two + bare, nil, "Node bare has no label topology.kubernetes.io/zone"},
		{"no CPU", one + two + noCPU, nil, "Node no-cpu has no status.allocatable.cpu"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := loaded(t, map[string]string{"nodes.yaml": "apiVersion: v1\nkind: NodeList\nitems:\n" + test.nodes})
			got := s.nodes.capacity
			if !slices.Equal(got.shares, test.shares) || got.unknown != test.unknown {
				t.Errorf("%+v, not %v %q", got, test.shares, test.unknown)
			}
		})
	}
}

// loaded is a Source that has read and linked a folder.
func loaded(t *testing.T, files map[string]string) *Source {
	t.Helper()
	s, err := New(folderWith(t, files), nil)
	must(t, err)
	s.folder.scan(t.Context())
	s.link()
	return s
}

// A Node that changes has those Services made anew that it concerns, and no others.
func TestNodeConcernsFewServices(t *testing.T) {
	const (
		node    = "apiVersion: v1\nkind: Node\nmetadata: {name: %s, labels: {%s}}\nstatus: {allocatable: {cpu: %d}, conditions: [{type: Ready, status: 'True'}], addresses: [{type: InternalIP, address: %s}]}\n"
		service = "apiVersion: v1\nkind: Service\nmetadata: {name: %[1]s, namespace: %[2]s, annotations: {%[3]s}}\nspec: {selector: {app: %[1]s}, ports: [{port: 80}]%[4]s}\n---\n" +
			"apiVersion: v1\nkind: Pod\nmetadata: {name: %[1]s, namespace: %[2]s, labels: {app: %[1]s}}\nspec: {nodeName: %[5]s}\nstatus: {podIPs: [{ip: %[6]s}], conditions: [{type: Ready, status: 'True'}]}\n"
		zoneA, zoneB = "topology.kubernetes.io/zone: a", "topology.kubernetes.io/zone: b"
		auto         = "service.kubernetes.io/topology-mode: Auto"
	)
	s := loaded(t, map[string]string{
		"n1.yaml": fmt.Sprintf(node, "n1", zoneA, 1, "192.0.2.1"),
		"n2.yaml": fmt.Sprintf(node, "n2", zoneB, 1, "192.0.2.2"),
		"1.yaml":  fmt.Sprintf(service, "plain-1", "one", "", "", "n1", "10.42.0.1"),
		"2.yaml":  fmt.Sprintf(service, "plain-2", "one", "", "", "n2", "10.42.0.2"),
		"3.yaml":  fmt.Sprintf(service, "near-1", "one", "", ", trafficDistribution: PreferSameZone", "n1", "10.42.0.3"),
		"4.yaml":  fmt.Sprintf(service, "auto-2", "one", auto, "", "n2", "10.42.0.4"),
		"5.yaml":  fmt.Sprintf(service, "plain-3", "two", "", "", "n2", "10.42.0.5"),
		"6.yaml":  fmt.Sprintf(service, "plain-none", "two", "", "", "", "10.42.0.6"),
	})
	linkedNow := func() map[string]*linked {
		all := map[string]*linked{}
		for _, v := range s.published.views {
			for name, l := range v.services {
				all[name.Name] = l
			}
		}
		return all
	}
	for _, test := range []struct {
		name, file, text string
		anew             []string // made anew
		services         []string // published
	}{
		{"an address", "n1.yaml", fmt.Sprintf(node, "n1", zoneA, 1, "192.0.2.9"), nil, nil},
		{"a Namespace", "ns.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: three}\n", nil, nil},
		{"CPUs", "n1.yaml", fmt.Sprintf(node, "n1", zoneA, 2, "192.0.2.9"), []string{"auto-2"}, nil},
		{"the zone", "n1.yaml", fmt.Sprintf(node, "n1", "topology.kubernetes.io/zone: c", 2, "192.0.2.9"), []string{"auto-2", "near-1", "plain-1"}, []string{"near-1", "plain-1"}},
		{"no zone", "n1.yaml", fmt.Sprintf(node, "n1", "", 2, "192.0.2.9"), []string{"auto-2", "near-1", "plain-1"}, []string{"near-1", "plain-1"}},
		{"gone", "n2.yaml", "# no Node\n", []string{"auto-2", "plain-2", "plain-3"}, []string{"auto-2", "plain-2", "plain-3"}},
	} {
		before := linkedNow()
		write(t, filepath.Join(s.folder.root, test.file), test.text)
		if !s.folder.scan(t.Context()) {
			t.Fatal("the change was not found")
		}
		u := s.link()
		var anew, published []string
		for name, l := range linkedNow() {
			if l != before[name] {
				anew = append(anew, name)
			}
		}
		for _, u := range u.Services {
			published = append(published, u.Name.Name)
		}
		slices.Sort(anew)
		slices.Sort(published)
		if !slices.Equal(anew, test.anew) || !slices.Equal(published, test.services) {
			t.Errorf("%s: Services made anew: %q, and not %q; published: %q, and not %q", test.name, anew, test.anew, published, test.services)
		}
	}
	if e := linkedNow()["near-1"].service.Endpoints[0]; e.Zone() != "" || e.Hints != nil || e.NodeName() != "n1" {
		t.Errorf("without its zone the endpoint is %+v", e)
	}
}

// Endpoints with hints that were exported keep them where there are no Nodes.
func TestExportedAutoHints(t *testing.T) {
	hinted := cluster.Endpoint{Ready: true, Hints: &cluster.Hints{Zones: []string{"a"}}}
	for _, test := range []struct {
		name      string
		endpoints []cluster.Endpoint
		want      string
	}{
		{"all hinted", []cluster.Endpoint{hinted, {}}, "[]"},
		{"one unhinted", []cluster.Endpoint{hinted, {Ready: true}}, "[topology-mode Auto has no effect: there are no Nodes here, whose zones and CPUs it goes by: write them]"},
	} {
		if told := fmt.Sprint(byCPU.hint(test.endpoints, newNodes(nil))); told != test.want {
			t.Errorf("%s: %s", test.name, told)
		}
		if kept := test.endpoints[0].Hints != nil; kept != (test.want == "[]") {
			t.Errorf("%s: hints are kept: %t", test.name, kept)
		}
	}
}

// A notice that tells of a Node without a zone follows when the Node goes.
func TestNoticeOfNodeThatGoes(t *testing.T) {
	const service = `{apiVersion: v1, kind: Service, metadata: {name: web, namespace: d}, spec: {selector: {app: web}, trafficDistribution: PreferSameZone, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: d, labels: {app: web}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.42.0.7}], conditions: [{type: Ready, status: "True"}]}}
`
	options := folderWith(t, map[string]string{"web.yaml": service, "node.yaml": "{apiVersion: v1, kind: Node, metadata: {name: n1}}\n"})
	s, err := New(options, nil)
	must(t, err)
	for _, want := range []string{"give its Node, n1, the label", "write its Node, n1, with the label"} {
		s.folder.scan(t.Context())
		s.link()
		if got := fmt.Sprint(s.published.problems()); !strings.Contains(got, want) {
			t.Errorf("%s, want %q", got, want)
		}
		must(t, os.RemoveAll(filepath.Join(options.Dir, "node.yaml")))
	}
}
