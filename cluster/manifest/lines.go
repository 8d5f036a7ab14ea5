package manifest

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
)

// field is the way to a value in an object: the keys of mappings, as strings, and the
// indexes of lists, as ints.
type field []any

var plainKey = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// String writes it as Kubernetes does: spec.ports[0].name,
// metadata.annotations[example.com/a].
func (f field) String() string {
	var b strings.Builder
	for _, step := range f {
		if key, is := step.(string); is && plainKey.MatchString(key) {
			b.WriteString("." + key)
		} else {
			fmt.Fprintf(&b, "[%v]", step)
		}
	}
	return strings.TrimPrefix(b.String(), ".")
}

// of returns a longer field. What it was made of may be made longer in other ways.
func (f field) of(step any) field { return append(slices.Clip(f), step) }

// lines knows where the values of a document stand. Decoding does not tell: so a
// document is read once more when somebody asks, which is where it is a List or
// something is wrong with it.
type lines struct {
	root *yamlv3.Node // nil also if the text can be read by the decoder alone
	read bool
}

// root is the node of the whole document, nil if it cannot be read so.
func (d *document) root() *yamlv3.Node {
	if !d.lines.read {
		d.lines.read = true
		var root yamlv3.Node
		if yamlv3.NewDecoder(bytes.NewReader(d.data)).Decode(&root) == nil && len(root.Content) == 1 {
			d.lines.root = root.Content[0]
		}
	}
	return d.lines.root
}

// find returns a value below a node, and the line of the document where its key or
// itself begins. It is nil if it is not there, for one because it comes from a mapping
// that is merged in.
func find(node *yamlv3.Node, at field) (value *yamlv3.Node, line int) {
	for _, step := range at {
		if node != nil && node.Kind == yamlv3.AliasNode {
			node = node.Alias
		}
		if node == nil {
			break
		}
		var next *yamlv3.Node
		switch step := step.(type) {
		case int:
			if node.Kind == yamlv3.SequenceNode && step < len(node.Content) {
				next = node.Content[step]
				line = next.Line
			}
		case string:
			for i := 0; node.Kind == yamlv3.MappingNode && i+1 < len(node.Content); i += 2 {
				if node.Content[i].Value == step { // of several the last counts
					next, line = node.Content[i+1], node.Content[i].Line
				}
			}
		}
		node = next
	}
	return node, line
}

// ofField matches the field that a message is about, with which it begins.
var ofField = regexp.MustCompile(`^(?:unknown field ")?([a-zA-Z]+(?:\.[a-zA-Z0-9]+|\[\d+\])*)(?:[ :"]|$)`)

var fieldStep = regexp.MustCompile(`[a-zA-Z0-9]+|\[\d+\]`)

// lineOf finds the line of the field that an error begins with, or of what it is missing
// in, and else returns that of the object.
func (d *documentParser) lineOf(err error) int {
	found := ofField.FindStringSubmatch(err.Error())
	if found == nil || d.doc == nil {
		return d.line
	}
	var at field
	for _, step := range fieldStep.FindAllString(found[1], -1) {
		if number, err := strconv.Atoi(strings.Trim(step, "[]")); err == nil && step[0] == '[' {
			at = append(at, number)
		} else {
			at = append(at, step)
		}
	}
	for ; len(at) > 0; at = at[:len(at)-1] {
		if node, line := find(d.node(), at); node != nil {
			return d.doc.offset + line - 1
		}
	}
	return d.line
}

// repeatedKeys returns an error for each key that a mapping of the object has more than
// once, at the line of the value that counts. The items of a List are objects of their
// own.
func (d *documentParser) repeatedKeys() []error {
	if !d.doc.repeats {
		return nil
	}
	var found []error
	var look func(node *yamlv3.Node, at field)
	look = func(node *yamlv3.Node, at field) {
		switch {
		case len(found) == maxProblems:
		case node.Kind == yamlv3.SequenceNode:
			for i, child := range node.Content {
				look(child, at.of(i))
			}
		case node.Kind == yamlv3.MappingNode:
			before := map[string]int{}
			for i := 0; i+1 < len(node.Content) && len(found) < maxProblems; i += 2 {
				key, value := node.Content[i], node.Content[i+1]
				if line, twice := before[key.Value]; twice && key.Kind == yamlv3.ScalarNode && key.Tag != "!!merge" {
					found = append(found, &lineError{d.doc.offset + key.Line - 1, fmt.Errorf(
						"%s is there twice, first in line %d: the last value counts; remove the other", at.of(key.Value), d.doc.offset+line-1)})
				}
				before[key.Value] = key.Line
				if len(at) > 0 || key.Value != "items" {
					look(value, at.of(key.Value))
				}
			}
		}
	}
	if node := d.node(); node != nil {
		look(node, nil)
	}
	return found
}
