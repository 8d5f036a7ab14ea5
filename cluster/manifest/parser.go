package manifest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/convert"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation"
	kjson "sigs.k8s.io/json"
)

// maxListDepth bounds Lists of Lists, each level of which is decoded again.
const maxListDepth = 4

// maxDocuments bounds the documents of a file, and the items of a List. Objects that
// have a name reach maxFileSize before.
const maxDocuments = 1 << 19

// supported maps the kinds that are read to their one apiVersion.
var supported = map[string]string{
	"Namespace":     "v1",
	"Service":       "v1",
	"Endpoints":     "v1",
	"Pod":           "v1",
	"Node":          "v1",
	"EndpointSlice": "discovery.k8s.io/v1",
}

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
			d.template()
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
	at   field // where the object is in the document
	line int
}

func (d *documentParser) report(severity Severity, object string, err error) {
	for _, err := range split(err) {
		line := d.line
		if placed := (*lineError)(nil); errors.As(err, &placed) {
			line = placed.line
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
func (d *documentParser) template() {
	d.notice(errors.New("this is a template and no manifest, so it is ignored: put here what comes of it, for a Helm chart what helm template prints"))
	d.keepUnread(d.doc.data, true)
}

// outline is what the parser looks at first in an object.
type outline struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Items      json.RawMessage `json:"items"`
	Metadata   json.RawMessage `json:"metadata"`
}

// object takes one object, or each of a List. The items of a typed list may
// leave their type to the list.
func (d *documentParser) object(body []byte, inherited metav1.TypeMeta, depth int) {
	if string(body) == "null" {
		return
	}
	if bytes.HasPrefix(body, []byte("[")) {
		d.bareList(body)
		return
	}
	var o outline
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &o); err != nil {
		d.cannotRead(body, "", fmt.Errorf("this is no Kubernetes object: %w", d.decodeError(err, body)))
		return
	}
	meta := metav1.TypeMeta{APIVersion: o.APIVersion, Kind: o.Kind}
	if meta == (metav1.TypeMeta{}) {
		meta = inherited
	}
	if meta.Kind == "" || meta.APIVersion == "" {
		d.untyped(body, o)
		return
	}
	isForeign := isForeign(meta.GroupVersionKind().Group)
	if right := spelling(meta.Kind); right != meta.Kind && !isForeign {
		object := ""
		if _, isObject := supported[right]; isObject {
			object = nameOf(right, body).String()
		}
		d.cannotRead(body, object, fmt.Errorf("kind %q is spelt %s", meta.Kind, right))
		return
	}
	if meta.Kind == "List" && meta.APIVersion != "v1" {
		d.cannotRead(body, "", unsupported(meta, "v1"))
		return
	}
	// As for kubectl, items make a List whatever its kind, and the kind counts for
	// items that have none.
	if o.Items != nil {
		d.list(body, metav1.TypeMeta{APIVersion: meta.APIVersion, Kind: strings.TrimSuffix(meta.Kind, "List")}, depth)
		return
	}
	want, known := supported[meta.Kind]
	switch {
	case !known || isForeign:
		d.other(body, meta)
	case want != meta.APIVersion:
		key := nameOf(meta.Kind, body)
		err := unsupported(meta, want)
		if key.name == "" {
			d.cannotRead(body, key.String(), errors.Join(err, errNameless(body)))
			return
		}
		d.invalid[key] = true
		d.report(Error, key.String(), err)
	default:
		d.known(meta.Kind, body)
	}
}

// objectFields are what objects of the supported kinds and Lists have at the top.
var objectFields = map[string]bool{
	"apiVersion": true, "kind": true, "metadata": true, "spec": true, "status": true, "items": true,
	"subsets": true, "addressType": true, "endpoints": true, "ports": true,
}

// untyped tells an object that lacks its kind or apiVersion from what is no object, as a
// file of values for Helm. The latter has no metadata, and has fields that no object
// has: those of an object that was cut off in writing are an object's.
func (d *documentParser) untyped(body []byte, o outline) {
	var fields map[string]json.RawMessage
	if kjson.UnmarshalCaseSensitivePreserveInts(body, &fields) == nil && !bytes.HasPrefix(o.Metadata, []byte("{")) {
		isOther := len(fields) == 0
		for name := range fields {
			isOther = isOther || !objectFields[name]
		}
		if isOther {
			d.notice(errors.New("this is no Kubernetes object, so it is ignored: an object has apiVersion, kind and metadata"))
			return
		}
	}
	missing := "apiVersion and kind are missing"
	switch {
	case o.Kind != "":
		missing = "apiVersion is missing"
	case o.APIVersion != "":
		missing = "kind is missing"
	}
	object, key := "", nameOf(cmp.Or(o.Kind, "object"), body)
	if o.Kind != "" || key.name != "" {
		object = key.String()
	}
	d.cannotRead(body, object, fmt.Errorf("%s: a Service, for one, has apiVersion: v1 and kind: Service", missing))
}

// bareList tells a list of objects, which is no List, from others, as one of patches.
func (d *documentParser) bareList(body []byte) {
	var elements []outline
	if kjson.UnmarshalCaseSensitivePreserveInts(body, &elements) == nil &&
		slices.ContainsFunc(elements, func(e outline) bool { return e.Kind != "" && e.APIVersion != "" }) {
		d.cannotRead(body, "", errors.New("this is a list and no Kubernetes object: write apiVersion: v1, kind: List, and the list below items"))
		return
	}
	d.notice(errors.New("this is a list and no Kubernetes object, so it is ignored"))
}

// isForeign reports whether an API group is not one of Kubernetes: what has a kind of
// the same name there, as a Service of Knative, is something else.
func isForeign(group string) bool {
	return strings.Contains(group, ".") && !strings.HasSuffix(group, ".k8s.io")
}

// spelling returns a kind as it is spelt, if it is a supported one or a list, and else as
// it stands.
func spelling(kind string) string {
	for right := range supported {
		for _, right := range []string{right, right + "List", "List"} {
			if strings.EqualFold(kind, right) {
				return right
			}
		}
	}
	return kind
}

// other ignores a kind that is not read, unless nobody has it: what it was to be is not
// known then.
func (d *documentParser) other(body []byte, meta metav1.TypeMeta) {
	gvk := meta.GroupVersionKind()
	switch {
	case meta.Kind == "List", kinds().Recognizes(gvk) && strings.HasSuffix(meta.Kind, "List"):
		d.cannotRead(body, "", fmt.Errorf("the %s has no items", meta.Kind))
		return
	case kinds().IsVersionRegistered(gvk.GroupVersion()) && !kinds().Recognizes(gvk):
		d.cannotRead(body, nameOf(meta.Kind, body).String(), fmt.Errorf("apiVersion %s has no kind %q: correct the one or the other", meta.APIVersion, meta.Kind))
		return
	}
	kind := fmt.Sprintf("%s (%s)", meta.Kind, meta.APIVersion)
	if _, seen := d.ignored[kind]; !seen {
		d.ignored[kind] = d.line
	}
}

// kinds knows all kinds of the supported apiVersions.
var kinds = sync.OnceValue(func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), discoveryv1.AddToScheme(scheme)); err != nil {
		panic(err)
	}
	return scheme
})

func unsupported(meta metav1.TypeMeta, want string) error {
	return fmt.Errorf("apiVersion %q of kind %s is not supported: write %s", meta.APIVersion, meta.Kind, want)
}

func (d *documentParser) list(body []byte, element metav1.TypeMeta, depth int) {
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	err := kjson.UnmarshalCaseSensitivePreserveInts(body, &list)
	switch {
	case depth == maxListDepth:
		err = fmt.Errorf("there are more than %d Lists inside each other: write one flat List", maxListDepth)
	case err != nil:
		err = fmt.Errorf("the List cannot be read: %w", d.decodeError(err, body))
	case len(list.Items) > maxDocuments:
		err = fmt.Errorf("the List has more than %d items: divide it", maxDocuments)
	}
	if err != nil {
		d.cannotRead(body, "", err)
		return
	}
	for _, twice := range d.doc.repeatedKeys(d.at) {
		d.report(Notice, "", twice)
	}
	items := d.at.of("items")
	for i, item := range list.Items {
		of := *d
		of.at = items.of(i)
		if node, line := d.doc.node(of.at); node != nil {
			of.line = line
		}
		of.object(item, element, depth+1)
	}
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
		//lint:ignore SA1019 deprecated, and still found in manifests
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
		take(d, kind, body, func(n *corev1.Node) (any, error) { return convert.Node(n) })
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
		d.template()
		return
	case key.name == "":
		d.cannotRead(body, key.String(), errors.Join(d.decodeError(err, body), errNameless(body)))
		return
	}
	for _, unknown := range strict {
		d.report(Notice, key.String(), fmt.Errorf("%w: it is ignored", unknown))
	}
	for _, twice := range d.doc.repeatedKeys(d.at) {
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
