package explain

import "testing"

// Short names are those of the namespace that the search list of who asks begins with.
func TestSearched(t *testing.T) {
	zones := []string{"cluster.local.", "example.org."}
	for _, c := range []struct {
		list []string
		want string
	}{
		{nil, "default"},
		{[]string{"example.com"}, "default"},
		{[]string{"shop.svc.cluster.local"}, "shop"},
		{[]string{"lan", "Shop.svc.Cluster.local.", "other.svc.cluster.local"}, "shop"},
		{[]string{"svc.cluster.local", "a.b.svc.cluster.local", "web.svc.example.org"}, "web"},
		{[]string{"shop.svc.elsewhere"}, "default"},
	} {
		if got := searched(c.list, zones); got != c.want {
			t.Errorf("%q: %s, want %s", c.list, got, c.want)
		}
	}
}
