package manifest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/convert"
	yamlv3 "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"
)

// maxDocuments bounds the documents of a file, and the items of a List. Objects that
// have a name reach maxFileSize before.
const maxDocuments = 1 << 19

// parser turns the text of a file into objects. It depends on nothing but its
// arguments.
type parser struct {
	families []cluster.Family // that have a service CIDR
}

func (p *parser) parse(file string, data []byte) *content {
	c := &content{invalid: map[objectKey]bool{}, unread: map[[sha256.Size]byte]unread{}, ignored: map[string]int{}, told: map[string]bool{}, empty: len(data) == 0}
	text, err := decodeText(data)
	if err != nil {
		d := &documentParser{content: c, file: file, line: 1}
		d.cannotRead(data, "", err)
		return c
	}
	for i, doc := range splitDocuments(text) {
		d := &documentParser{parser: p, content: c, file: file, doc: doc, line: doc.line}
		if i == maxDocuments {
			d.cannotRead(text, "", fmt.Errorf("there are more than %d documents in the file: what begins here is not read", maxDocuments))
			break
		}
		body, err := doc.toJSON()
		switch {
		case err == nil:
			d.object(body, metav1.TypeMeta{}, 0)
		case doc.isTemplate():
			d.template(doc.data)
		default:
			d.cannotRead(doc.data, "", err)
		}
	}
	return c
}

// documentParser parses one document, or an item of a List in it, into the content of
// its file.
type documentParser struct {
	*parser
	*content
	file string
	doc  *document
	line int
	// item is where an item of a List stands; nil also where that is not known.
	item   *yamlv3.Node
	isItem bool
}

// node is where the object stands, nil if that is not known.
func (d *documentParser) node() *yamlv3.Node {
	if d.isItem {
		return d.item
	}
	return d.doc.root()
}

func (d *documentParser) report(severity Severity, object string, err error) {
	for _, err := range split(err) {
		line := d.line
		if placed := (*lineError)(nil); errors.As(err, &placed) {
			line = placed.line
		} else if len(d.problems) < maxProblems {
			line = d.lineOf(err)
		}
		d.problems = append(d.problems, Problem{File: d.file, Line: line, Object: object, Err: err, Severity: severity})
	}
}

// notice tells something of the file as a whole, once.
func (d *documentParser) notice(err error) {
	if !d.told[err.Error()] {
		d.told[err.Error()] = true
		d.report(Notice, "", err)
	}
}

// cannotRead notes a text, a document or an item of a List, of which it is not known
// what object it is.
func (d *documentParser) cannotRead(text []byte, object string, err error) {
	d.report(Error, object, err)
	d.keepUnread(text, false)
}

func (d *documentParser) keepUnread(text []byte, template bool) {
	// What begins and ends a document is not its own: others may come and go beside it.
	key := sha256.Sum256(bytes.TrimSpace(bytes.TrimPrefix(text, []byte("---"))))
	if _, twice := d.unread[key]; !twice {
		d.unread[key] = unread{line: d.line, template: template}
	}
}

// template notes a document that is to become one or more objects elsewhere.
func (d *documentParser) template(text []byte) {
	d.notice(errors.New("this is a template and no manifest, so it is ignored: put here what comes of it, for a Helm chart what helm template prints"))
	d.keepUnread(text, true)
}

func (d *documentParser) known(kind string, body []byte) {
	switch kind {
	case "Namespace":
		take(d, kind, body, func(n *corev1.Namespace) (any, error) { return nil, convert.CheckLabel("metadata.name", n.Name) })
	case "Service":
		take(d, kind, body, func(s *corev1.Service) (any, error) {
			for _, odd := range oddities(s) {
				d.report(Notice, keyOf(kind, s.Namespace, s.Name).String(), odd)
			}
			for _, wrong := range convert.Balancing(s) {
				d.report(Error, keyOf(kind, s.Namespace, s.Name).String(), wrong)
			}
			return d.convertService(s)
		})
	case "EndpointSlice":
		take(d, kind, body, func(s *discoveryv1.EndpointSlice) (any, error) {
			if s.Labels[discoveryv1.LabelServiceName] == "" {
				d.report(Notice, keyOf(kind, s.Namespace, s.Name).String(),
					fmt.Errorf("it has no label %s, so it belongs to no Service and is ignored: set the label to the name of the Service", discoveryv1.LabelServiceName))
				return nil, nil
			}
			return convertSlice(s)
		})
	case "Endpoints":
		take(d, kind, body, func(e *corev1.Endpoints) (any, error) { return convertEndpoints(e) })
	case "Pod":
		take(d, kind, body, func(p *corev1.Pod) (any, error) {
			if lacksReady(p) {
				d.report(Notice, keyOf(kind, p.Namespace, p.Name).String(),
					errors.New(`it has an address but no condition Ready, so it counts as not ready: add status.conditions [{type: Ready, status: "True"}]`))
			}
			return convertPod(p)
		})
	case "Node":
		take(d, kind, body, func(n *corev1.Node) (any, error) { return convertNode(n) })
	}
}

// take decodes an object, converts it, and adds it to the content, or notes why
// not.
func take[T any, P interface {
	*T
	metav1.Object
}](d *documentParser, kind string, body []byte, convertObject func(P) (any, error)) {
	decoded := P(new(T))
	// Field names are matched and fields are skipped as the API server does it.
	strict, err := kjson.UnmarshalStrict(body, decoded)
	key := keyOf(kind, decoded.GetNamespace(), decoded.GetName())
	if err != nil {
		key = nameOf(kind, body)
	}
	decoded.SetNamespace(key.namespace)
	switch {
	case strings.Contains(key.namespace+key.name, "{{"):
		d.template(body)
		return
	case key.name == "":
		d.cannotRead(body, key.String(), errors.Join(d.decodeError(err, body), errNameless(body)))
		return
	}
	for _, unknown := range strict {
		d.report(Notice, key.String(), fmt.Errorf("%w: it is ignored", unknown))
	}
	for _, twice := range d.repeatedKeys() {
		d.report(Notice, key.String(), twice)
	}
	if kind == "Pod" || kind == "Node" || kind == "Namespace" {
		for _, wrong := range convert.Misplaced(kind, decoded.GetAnnotations()) {
			d.report(Error, key.String(), wrong)
		}
	}
	o := &object{objectKey: key, file: d.file, line: d.line}
	if err == nil {
		o.value, err = convertObject(decoded)
	}
	err = errors.Join(d.decodeError(err, body), checkKey(key))
	if err == nil {
		d.objects = append(d.objects, o)
		return
	}
	d.report(Error, key.String(), err)
	// Endpoints are independent of each other: those that are sound count.
	if list, ok := o.value.(*endpoints); ok && list != nil && list.owner.Name != "" && checkKey(key) == nil {
		d.objects = append(d.objects, o)
		return
	}
	d.invalid[key] = true
}

// identity is what names an object.
type identity struct {
	Namespace    string `json:"namespace"`
	Name         string `json:"name"`
	GenerateName string `json:"generateName"`
}

func identityOf(body []byte) identity {
	var partial struct {
		Metadata identity `json:"metadata"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &partial); err != nil {
		return identity{}
	}
	return partial.Metadata
}

// nameOf finds the name of an object that does not decode as a whole.
func nameOf(kind string, body []byte) objectKey {
	of := identityOf(body)
	return keyOf(kind, of.Namespace, of.Name)
}

// errNameless says what to do about an object without a name. One that kubectl create
// would name has none either: like kubectl apply, a folder has to know its objects again.
func errNameless(body []byte) error {
	if generate := identityOf(body).GenerateName; generate != "" {
		return fmt.Errorf("metadata.name is missing, and metadata.generateName %q makes another name each time: write metadata.name", generate)
	}
	return errors.New("metadata.name is missing: write it")
}

// keyOf leaves out the namespace where a kind has none, and fills it in where it
// is not given.
func keyOf(kind, namespace, name string) objectKey {
	switch {
	case kind == "Namespace" || kind == "Node":
		namespace = ""
	case namespace == "":
		namespace = metav1.NamespaceDefault
	}
	return objectKey{kind, namespace, name}
}

// checkKey checks the names that conversion does not check.
func checkKey(key objectKey) error {
	if key.kind == "Service" || key.kind == "Namespace" {
		return nil
	}
	var err error
	if msgs := validation.IsDNS1123Subdomain(key.name); len(msgs) > 0 {
		err = fmt.Errorf("metadata.name %q is no DNS name: %s", key.name, msgs[0])
	}
	if key.namespace != "" {
		err = errors.Join(err, convert.CheckLabel("metadata.namespace", key.namespace))
	}
	return err
}
