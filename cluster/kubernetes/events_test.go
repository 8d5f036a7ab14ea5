package kubernetes

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
)

// An Event about an object has a valid name of its own, however long the object's is.
func TestEventName(t *testing.T) {
	const sum = "0123456789abcdef"
	long := strings.Repeat("a", 100) + "-" + strings.Repeat("b", 134)
	names := []string{"web", "a.b", long + "-.x.y", long + ".x", long + "ab." + strings.Repeat("c", 16), strings.Repeat("d.", 126) + "d"}
	for _, object := range names {
		got := eventName(object, sum)
		if wrong := validation.IsDNS1123Subdomain(got); len(wrong) > 0 {
			t.Errorf("of %s: %s: %q", object, got, wrong)
		}
		if !strings.HasSuffix(got, "."+sum) || len(object) < 200 && got != object+"."+sum {
			t.Errorf("of %s: %s", object, got)
		}
	}
}
