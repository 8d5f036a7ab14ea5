package manifest

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

// manyServices is a folder with 10,000 Services of 10 Pods each, a hundred to a
// namespace, in one file each.
func manyServices(b *testing.B) Options {
	b.Helper()
	options := Options{Dir: b.TempDir()}
	for i := range 10_000 {
		namespace := fmt.Sprint("ns", i/100)
		write(b, filepath.Join(options.Dir, namespace, fmt.Sprint(i, ".yaml")), manifestOf(namespace, i))
	}
	return options
}

// scanned returns a Source that has read the folder, whose files have settled: no
// scan reads them again.
func scanned(b *testing.B, options Options) *Source {
	b.Helper()
	s, err := New(options, nil)
	if err != nil {
		b.Fatal(err)
	}
	settled := func() bool {
		for _, f := range s.folder.files {
			if !f.settled {
				return false
			}
		}
		return true
	}
	for s.folder.scan(b.Context()); !settled(); {
		s.folder.scan(b.Context())
	}
	return s
}

func manifestOf(namespace string, i int) string {
	text := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: s%d, namespace: %s}\nspec: {selector: {app: s%d}, ports: [{port: 80}]}\n", i, namespace, i)
	for pod := range 10 {
		text += fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {name: s%d-%d, namespace: %s, labels: {app: s%d}}\nspec: {nodeName: n%d}\nstatus: {podIPs: [{ip: 10.%d.%d.%d}], conditions: [{type: Ready, status: 'True'}]}\n",
			i, pod, namespace, i, 1+pod%2, 64+i>>12, i>>4&255, i&15*16+pod)
	}
	return text
}

// BenchmarkChange10000 is one changed file among 10,000: looking for it, reading
// it, and finding the one Service that differs.
func BenchmarkChange10000(b *testing.B) {
	options := manyServices(b)
	s := scanned(b, options)
	s.link()
	path := filepath.Join(options.Dir, "ns50", "5000.yaml")
	port := 1
	for b.Loop() {
		b.StopTimer()
		port++
		write(b, path, manifestOf("ns50", 5000)+fmt.Sprintf("---\napiVersion: v1\nkind: Pod\nmetadata: {name: extra, namespace: ns50, labels: {app: s5000}}\nstatus: {podIPs: [{ip: 10.9.%d.%d}]}\n", port>>8, port&255))
		b.StartTimer()
		if !s.folder.scan(b.Context()) {
			b.Fatal("the change was not found")
		}
		if u := s.link(); len(u.Services) != 1 {
			b.Fatalf("%d Services differ", len(u.Services))
		}
	}
}

// BenchmarkNode10000 is a Node whose CPUs change, among 10,000 Services of which 100 have
// topology-mode Auto: these are made anew, and the rest is what any change costs.
func BenchmarkNode10000(b *testing.B) {
	options := manyServices(b)
	for i := range 100 {
		namespace := fmt.Sprint("ns", i)
		text := strings.Replace(manifestOf(namespace, i*100), "metadata: {", "metadata: {annotations: {service.kubernetes.io/topology-mode: Auto}, ", 1)
		write(b, filepath.Join(options.Dir, namespace, fmt.Sprint(i*100, ".yaml")), text)
	}
	path := filepath.Join(options.Dir, "nodes.yaml")
	nodes := func(cpu int) string {
		return fmt.Sprintf("apiVersion: v1\nkind: NodeList\nitems:\n"+
			"- metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}\n  status: {allocatable: {cpu: 8}, conditions: [{type: Ready, status: 'True'}]}\n"+
			"- metadata: {name: n2, labels: {topology.kubernetes.io/zone: b}}\n  status: {allocatable: {cpu: %d}, conditions: [{type: Ready, status: 'True'}]}\n", cpu)
	}
	write(b, path, nodes(1))
	s := scanned(b, options)
	s.link()
	for cpu := 8; b.Loop(); cpu = 9 - cpu {
		b.StopTimer()
		write(b, path, nodes(cpu))
		if !s.folder.scan(b.Context()) {
			b.Fatal("the change was not found")
		}
		b.StartTimer()
		if u := s.link(); len(u.Services) != 100 {
			b.Fatalf("%d Services differ", len(u.Services))
		}
	}
}

// BenchmarkScan10000 is what looking at an unchanged folder costs.
func BenchmarkScan10000(b *testing.B) {
	options := manyServices(b)
	s := scanned(b, options)
	for b.Loop() {
		s.folder.scan(b.Context())
	}
}

// BenchmarkLoad10000 is a start: every file is read.
func BenchmarkLoad10000(b *testing.B) {
	options := manyServices(b)
	for b.Loop() {
		if _, _, err := Load(options); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkList is an export of 20,000 Services in one List, which is read a second time
// for the lines of its items; of as many documents, which are not.
func BenchmarkList(b *testing.B) {
	var list, documents strings.Builder
	list.WriteString("apiVersion: v1\nkind: List\nitems:\n")
	for i := range 20_000 {
		text := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata:\n  labels:\n    app: s%[1]d\n  name: s%[1]d\n  namespace: shop\nspec:\n  ports:\n  - port: 80\n    protocol: TCP\n  selector:\n    app: s%[1]d\n", i)
		fmt.Fprintf(&documents, "---\n%s", text)
		fmt.Fprintf(&list, "- %s\n", strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  "))
	}
	p := &parser{families: []cluster.Family{cluster.IPv4}}
	for name, text := range map[string]string{"list": list.String(), "documents": documents.String()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if c := p.parse("a.yaml", []byte(text)); len(c.objects) != 20_000 {
					b.Fatal(c.problems)
				}
			}
		})
	}
}
