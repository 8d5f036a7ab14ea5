package manifest

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
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

// supported maps the kinds that are read to their one apiVersion. Each has a list
// kind too; "" is kind List itself, whose items say what they are.
var supported = map[string]string{
	"":              "v1",
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
	c := &content{invalid: map[objectKey]bool{}, unread: map[[sha256.Size]byte]unread{}, ignored: map[string]int{}, empty: len(data) == 0}
	if isUTF16(data) {
		d := &documentParser{content: c, file: file, line: 1}
		d.cannotRead(data, errors.New("the text is in UTF-16: save the file in UTF-8"))
		return c
	}
	for _, doc := range splitDocuments(data) {
		d := &documentParser{parser: p, content: c, file: file, line: doc.line}
		body, err := doc.toJSON()
		if err != nil {
			d.cannotRead(doc.data, err)
			continue
		}
		d.object(body, metav1.TypeMeta{}, 0)
	}
	return c
}

// documentParser parses one document into the content of its file.
type documentParser struct {
	*parser
	*content
	file string
	line int
}

func (d *documentParser) report(severity Severity, object string, err error) {
	line := d.line
	if placed := (*lineError)(nil); errors.As(err, &placed) {
		line = placed.line
	}
	for _, err := range split(err) {
		d.problems = append(d.problems, Problem{File: d.file, Line: line, Object: object, Err: err, Severity: severity})
	}
}

// cannotRead notes a text, a document or an item of a List, of which it is not known
// what object it is.
func (d *documentParser) cannotRead(text []byte, err error) {
	d.report(Error, "", err)
	// What begins and ends a document is not its own: others may come and go beside it.
	key := sha256.Sum256(bytes.TrimSpace(bytes.TrimPrefix(text, []byte("---"))))
	if _, twice := d.unread[key]; !twice {
		d.unread[key] = unread{line: d.line}
	}
}

// object takes one object, or each of a List. The items of a typed list may
// leave their type to the list.
func (d *documentParser) object(body []byte, inherited metav1.TypeMeta, depth int) {
	if string(body) == "null" {
		return
	}
	var meta metav1.TypeMeta
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &meta); err != nil {
		d.cannotRead(body, fmt.Errorf("this is no Kubernetes object: %w", decodeError(err, body)))
		return
	}
	if meta.Kind == "" && meta.APIVersion == "" {
		meta = inherited
	}
	if meta.Kind == "" || meta.APIVersion == "" {
		d.cannotRead(body, errors.New("kind or apiVersion is missing: a Service, for one, has apiVersion: v1 and kind: Service"))
		return
	}
	element, isList := strings.CutSuffix(meta.Kind, "List")
	want, known := supported[element]
	switch {
	case !known:
		d.other(body, meta)
	case want != meta.APIVersion && isList:
		d.cannotRead(body, unsupported(meta, want))
	case want != meta.APIVersion:
		key := nameOf(meta.Kind, body)
		if key.name == "" {
			d.cannotRead(body, unsupported(meta, want))
			return
		}
		d.invalid[key] = true
		d.report(Error, key.String(), unsupported(meta, want))
	case isList:
		d.list(body, metav1.TypeMeta{APIVersion: want, Kind: element}, depth)
	default:
		d.known(meta.Kind, body)
	}
}

// other ignores a kind that is not read, unless it is a misspelt one: what it was
// to be is not known then.
func (d *documentParser) other(body []byte, meta metav1.TypeMeta) {
	for element := range supported {
		for _, kind := range []string{element, element + "List"} {
			if strings.EqualFold(kind, meta.Kind) {
				d.cannotRead(body, fmt.Errorf("kind %q is spelt %s", meta.Kind, kind))
				return
			}
		}
	}
	gvk := meta.GroupVersionKind()
	if kinds().IsVersionRegistered(gvk.GroupVersion()) && !kinds().Recognizes(gvk) {
		d.cannotRead(body, fmt.Errorf("apiVersion %s has no kind %q: correct the one or the other", meta.APIVersion, meta.Kind))
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
	if depth == maxListDepth {
		d.cannotRead(body, fmt.Errorf("there are more than %d Lists inside each other: write one flat List", maxListDepth))
		return
	}
	var list struct {
		Items []json.RawMessage `json:"items"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &list); err != nil {
		d.cannotRead(body, fmt.Errorf("the List cannot be read: %w", decodeError(err, body)))
		return
	}
	for _, item := range list.Items {
		d.object(item, element, depth+1)
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
		take(d, kind, body, func(s *discoveryv1.EndpointSlice) (any, error) { return convertSlice(s) })
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
	if key.name == "" {
		if err == nil {
			err = fmt.Errorf("metadata.name is missing: give the %s a name", kind)
		}
		d.cannotRead(body, decodeError(err, body))
		return
	}
	for _, unknown := range strict {
		d.report(Notice, key.String(), fmt.Errorf("%w: it is ignored", unknown))
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
	err = errors.Join(decodeError(err, body), checkKey(key))
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

// nameOf finds the name of an object that does not decode as a whole.
func nameOf(kind string, body []byte) objectKey {
	var partial struct {
		Metadata struct {
			Namespace string `json:"namespace"`
			Name      string `json:"name"`
		} `json:"metadata"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &partial); err != nil {
		return objectKey{kind: kind}
	}
	return keyOf(kind, partial.Metadata.Namespace, partial.Metadata.Name)
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
