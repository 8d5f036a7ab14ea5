package manifest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// catalogue is all objects of the folder, without duplicates.
type catalogue struct {
	// namespaces holds the objects by namespace, in the order of the files;
	// those without a namespace are under "".
	namespaces map[string][]*object
	objects    map[objectKey]*object
	problems   []Problem
	twice      map[string][]Problem // by file, of objects that do not count for being elsewhere
}

// newCatalogue collects the objects of a folder. Of duplicates the one that is in
// force stays, so that a copy takes nobody's place.
func newCatalogue(f *folder, inForce *catalogue) *catalogue {
	c := &catalogue{namespaces: map[string][]*object{}, objects: map[objectKey]*object{}, problems: slices.Clone(f.problems), twice: map[string][]Problem{}}
	ignored := map[string]Problem{}
	files := f.inOrder()
	for _, file := range files {
		if file.failure != nil {
			c.problems = append(c.problems, Problem{File: file.path, Err: file.failure})
		}
		if file.content == nil {
			continue
		}
		c.problems = append(c.problems, file.content.problems...)
		for kind, line := range file.content.ignored {
			if _, known := ignored[kind]; !known {
				ignored[kind] = Problem{File: file.path, Line: line, Severity: Notice, Err: notRead(kind)}
			}
		}
		if !file.isUnread() {
			for _, o := range file.content.objects {
				c.add(o, inForce.objects[o.objectKey])
			}
		}
	}
	c.addUnseen(files, inForce)
	for file, problems := range c.twice {
		c.problems = append(c.problems, boundProblems(problems, file)...)
	}
	for _, kind := range slices.Sorted(maps.Keys(ignored)) {
		c.problems = append(c.problems, ignored[kind])
	}
	if len(files) == 0 && len(f.problems) == 0 {
		text := "the folder has no manifests: put *.yaml, *.yml or *.json files there"
		if !f.had {
			text += "; until there are some, what an earlier run has left stays in force"
		}
		c.problems = append(c.problems, Problem{File: f.root, Severity: Notice, Err: errors.New(text)})
	}
	return c
}

// addUnseen adds the objects of files that cannot be read now, and those that may be in
// what cannot be read of a file. One that was found elsewhere has moved, and is left out.
func (c *catalogue) addUnseen(files []*file, inForce *catalogue) {
	var unseen []*object
	for _, file := range files {
		if file.content == nil {
			continue
		}
		file.content.found(c.objects)
		if file.isUnread() {
			for _, o := range file.content.objects {
				if c.objects[o.objectKey] == nil {
					unseen = append(unseen, o)
				}
			}
		}
		for _, m := range file.content.missing {
			unseen = append(unseen, m.object)
		}
		c.problems = append(c.problems, boundProblems(file.content.missingProblems(), file.path)...)
	}
	for _, o := range unseen {
		c.add(o, inForce.objects[o.objectKey])
	}
}

// runners are the kinds that run pods in Kubernetes.
var runners = map[string]bool{
	"Deployment": true, "StatefulSet": true, "DaemonSet": true, "ReplicaSet": true, "ReplicationController": true,
	"Job": true, "CronJob": true,
}

// notRead says what it means that objects of a kind, "Deployment (apps/v1)", are not
// read.
func notRead(kind string) error {
	name, _, _ := strings.Cut(kind, " ")
	switch {
	case runners[name]:
		return fmt.Errorf("objects of kind %s are not run: nothing here runs pods; write their Pods, or an EndpointSlice", kind)
	case name == "Kustomization":
		return fmt.Errorf("objects of kind %s are ignored: nothing here applies them; put here what kubectl kustomize prints", kind)
	}
	return fmt.Errorf("objects of kind %s are ignored: nothing here depends on them", kind)
}

// add takes an object unless another of its name counts: the one from the file
// that the object in force is from, or else the first.
func (c *catalogue) add(o, inForce *object) {
	counts, twice := c.objects[o.objectKey]
	if !twice {
		c.objects[o.objectKey] = o
		c.namespaces[o.namespace] = append(c.namespaces[o.namespace], o)
		return
	}
	if inForce != nil && o.file == inForce.file && counts.file != inForce.file {
		list := c.namespaces[o.namespace]
		list[slices.Index(list, counts)] = o
		c.objects[o.objectKey] = o
		counts, o = o, counts
	}
	c.twice[o.file] = append(c.twice[o.file], o.problem(Error, fmt.Errorf("this object is also in %s:%d, which counts: remove one of the two", counts.file, counts.line)))
}

// services yields every Service with its object.
func (c *catalogue) services(yield func(*object, *service) bool) {
	for _, objects := range c.namespaces {
		for _, o := range objects {
			if s, ok := o.value.(*service); ok && !yield(o, s) {
				return
			}
		}
	}
}

// changedSince lists the namespaces whose objects are others than before.
func (c *catalogue) changedSince(before *catalogue) map[string]bool {
	changed := map[string]bool{}
	for _, name := range differing(before.namespaces, c.namespaces, slices.Equal) {
		changed[name] = true
	}
	return changed
}

// nodes returns the Nodes, by name.
func (c *catalogue) nodes() map[string]*node {
	nodes := map[string]*node{}
	for _, o := range c.namespaces[""] {
		if n, ok := o.value.(*node); ok {
			nodes[n.model.Name] = n
		}
	}
	return nodes
}

// namespaceNames returns the namespaces that exist: those with a Namespace
// object, and those with any other object in them.
func (c *catalogue) namespaceNames() map[string]bool {
	names := map[string]bool{}
	for name := range c.namespaces {
		if name != "" {
			names[name] = true
		}
	}
	for _, o := range c.namespaces[""] {
		if o.kind == "Namespace" {
			names[o.name] = true
		}
	}
	return names
}

// namespace is the objects of one namespace, by what linking asks for.
type namespace struct {
	services  []*object
	endpoints map[string][]*object // by the name of the Service
	pods      []*pod
	byLabel   map[label][]*pod
}

type label struct{ key, value string }

func newNamespace(objects []*object) *namespace {
	n := &namespace{endpoints: map[string][]*object{}, byLabel: map[label][]*pod{}}
	for _, o := range objects {
		switch value := o.value.(type) {
		case *service:
			n.services = append(n.services, o)
		case *endpoints:
			n.endpoints[value.owner.Name] = append(n.endpoints[value.owner.Name], o)
		case *pod:
			n.pods = append(n.pods, value)
			for key, text := range value.labels {
				n.byLabel[label{key, text}] = append(n.byLabel[label{key, text}], value)
			}
		}
	}
	return n
}

// selected returns the Pods that carry all labels of a selector, and none for an
// empty one. It looks only at those that carry the rarest of them.
func (n *namespace) selected(selector map[string]string) []*pod {
	var candidates []*pod
	first := true
	for key, text := range selector {
		if with := n.byLabel[label{key, text}]; first || len(with) < len(candidates) {
			candidates, first = with, false
		}
	}
	selected := make([]*pod, 0, len(candidates)) // mostly all
	for _, pod := range candidates {
		if matches(pod.labels, selector) {
			selected = append(selected, pod)
		}
	}
	return selected
}

func matches(labels, selector map[string]string) bool {
	for key, text := range selector {
		if given, ok := labels[key]; !ok || given != text {
			return false
		}
	}
	return true
}
