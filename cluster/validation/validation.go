// Package validation refuses what the API server refuses of an object and package convert
// takes: values that contradict each other, names and labels that Kubernetes does not have,
// more than a list may hold. An API server has looked at its objects already, so this is for
// a folder of manifests.
//
// The rules are those of Kubernetes 1.37, for a new object and for its status, as far as names
// or NAT read the fields. docs/operations.md lists what is left out, and test/kubernetes asks an
// API server. What has to do with other objects is not judged here.
//
// Each function returns every fault of an object, with the field, the value and the mend. It
// does not name the object.
package validation

import (
	"fmt"
	"maps"
	"slices"

	apivalidation "k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	metavalidation "k8s.io/apimachinery/pkg/apis/meta/v1/validation"
)

// faults are those of one object so far.
type faults []error

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Errorf(format, args...)) }

// metadata begins the faults of an object with those of its labels and annotations.
func metadata(m *metav1.ObjectMeta) faults {
	var f faults
	f.labels("metadata.labels", m.Labels)
	// The library's own texts: they name the key, and how it has to be.
	for _, err := range apivalidation.ValidateAnnotations(m.Annotations, field.NewPath("metadata", "annotations")) {
		f.add("%w: rename or shorten it", err)
	}
	return f
}

// labels judges the labels of an object, or those that a selector asks for.
func (f *faults) labels(where string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		for _, err := range metavalidation.ValidateLabelName(key, nil) {
			f.add("%s: the key %q is no name of a label: %s", where, key, err.Detail)
		}
		for _, msg := range validation.IsValidLabelValue(labels[key]) {
			f.add("%s[%s] %q is no value of a label: %s", where, key, labels[key], msg)
		}
	}
}

// nodeName judges the name of a Node.
func (f *faults) nodeName(where, name string) {
	for _, msg := range validation.IsDNS1123Subdomain(name) {
		f.add("%s %q is no name of a Node: %s", where, name, msg)
	}
}

// label judges a name that becomes a part of names in DNS.
func (f *faults) label(where, name string) {
	for _, msg := range validation.IsDNS1123Label(name) {
		f.add("%s %q is no DNS label: %s", where, name, msg)
	}
}

// atMost judges how long a list is. mend says what to do with the rest.
func (f *faults) atMost(where string, n, most int, mend string) {
	if n > most {
		f.add("%s has %d entries, and may have %d: %s", where, n, most, mend)
	}
}
