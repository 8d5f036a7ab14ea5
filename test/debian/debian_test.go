package debian

import (
	"strings"
	"testing"
)

func TestNeeded(t *testing.T) {
	const depends = `tool
  PreDepends: libc
  Depends: libtool
 |Depends: helper
  Depends: <virtual>
    provider
libc
libtool
  Depends: libc
  Depends: data
helper
  Depends: libhelper
<virtual>
provider
data
  Depends: libdata
libhelper
libdata
`
	libraries := func(name string) bool { return strings.HasPrefix(name, "lib") }
	for _, c := range []struct {
		why, names string
		wanted     func(string) bool
		want       string
	}{
		{"all", "tool", nil, "data helper libc libdata libhelper libtool tool"},
		{"what only unwanted packages need is left out, and the named one is not wanted itself", "tool", libraries, "libc libtool"},
		{"two", "libtool helper", libraries, "libc libhelper libtool"},
		{"unknown", "other", libraries, ""},
	} {
		if got := strings.Join(needed(depends, strings.Fields(c.names), c.wanted), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
	}
}
