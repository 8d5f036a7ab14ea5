package manifest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kjson "sigs.k8s.io/json"
)

// maxListDepth bounds Lists of Lists, each level of which is decoded again.
const maxListDepth = 4

// supported maps the kinds that are read to their one apiVersion.
var supported = map[string]string{
	"Namespace":     "v1",
	"Service":       "v1",
	"Endpoints":     "v1",
	"Pod":           "v1",
	"Node":          "v1",
	"EndpointSlice": "discovery.k8s.io/v1",
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
		err = fmt.Errorf("this is no Kubernetes object: %w", d.decodeError(err, body))
		if !bytes.HasPrefix(body, []byte("{")) {
			err = fmt.Errorf("%w: an object has apiVersion, kind and metadata; move what is none to another folder", err)
		}
		d.cannotRead(body, "", err)
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
	right := spelling(meta.Kind)
	_, isKnown := supported[right]
	switch {
	case isForeign, right == meta.Kind:
	case isKnown:
		d.cannotRead(body, nameOf(right, body).String(), fmt.Errorf("kind %q is spelt %s", meta.Kind, right))
		return
	default:
		d.cannotRead(body, "", fmt.Errorf("kind %q is spelt %s", meta.Kind, right))
		return
	}
	switch {
	case meta.Kind == "List" && meta.APIVersion != "v1":
		d.cannotRead(body, "", unsupported(meta, "v1"))
	// As for kubectl, items make a List whatever its kind, and the kind counts for
	// items that have none.
	case o.Items != nil:
		d.list(body, metav1.TypeMeta{APIVersion: meta.APIVersion, Kind: strings.TrimSuffix(meta.Kind, "List")}, depth)
	case !isKnown || isForeign:
		d.other(body, meta)
	case meta.APIVersion != supported[meta.Kind]:
		d.outdated(body, meta)
	default:
		d.known(meta.Kind, body)
	}
}

// outdated notes an object of a supported kind in another apiVersion.
func (d *documentParser) outdated(body []byte, meta metav1.TypeMeta) {
	key := nameOf(meta.Kind, body)
	err := unsupported(meta, supported[meta.Kind])
	if key.name == "" {
		d.cannotRead(body, key.String(), errors.Join(err, errNameless(body)))
		return
	}
	d.invalid[key] = true
	d.report(Error, key.String(), err)
}

func unsupported(meta metav1.TypeMeta, want string) error {
	return fmt.Errorf("apiVersion %q of kind %s is not supported: write %s", meta.APIVersion, meta.Kind, want)
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
		d.cannotRead(body, nameOf(meta.Kind, body).String(), fmt.Errorf("apiVersion %s has no kind %q: %s", meta.APIVersion, meta.Kind, mendKind(meta.Kind)))
		return
	}
	kind := fmt.Sprintf("%s (%s)", meta.Kind, meta.APIVersion)
	if _, seen := d.ignored[kind]; !seen {
		d.ignored[kind] = d.line
	}
}

// mendKind mends a kind that nobody has: many write Endpoint, or Services.
func mendKind(kind string) string {
	for right := range supported {
		if right == kind+"s" || right+"s" == kind {
			return "write " + right
		}
	}
	return "correct the one or the other"
}

// kinds knows all kinds of the supported apiVersions.
var kinds = sync.OnceValue(func() *runtime.Scheme {
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), discoveryv1.AddToScheme(scheme)); err != nil {
		panic(err)
	}
	return scheme
})

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
	for _, twice := range d.repeatedKeys() {
		d.report(Notice, "", twice)
	}
	items, _ := find(d.node(), field{"items"})
	for i, item := range list.Items {
		of := *d
		of.isItem = true
		if of.item, of.line = find(items, field{i}); of.item == nil {
			of.line = d.line
		} else {
			of.line += d.doc.offset - 1
		}
		of.object(item, element, depth+1)
	}
}
