package status

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

func TestParseTarget(t *testing.T) {
	at := netip.MustParseAddrPort
	for text, want := range map[string]Target{
		"web":                   {Name: "web"},
		"Web.Shop.":             {Name: "web.shop."},
		"_http._tcp.web.shop":   {Name: "_http._tcp.web.shop"},
		"shop/web":              {Service: cluster.ServiceName{Namespace: "shop", Name: "web"}},
		"web.shop:8080":         {Name: "web.shop", Port: 8080},
		"web.shop.:53/udp":      {Name: "web.shop.", Port: 53, Protocol: cluster.UDP},
		"shop/web:80":           {Service: cluster.ServiceName{Namespace: "shop", Name: "web"}, Port: 80},
		"shop/web:80/TCP":       {Service: cluster.ServiceName{Namespace: "shop", Name: "web"}, Port: 80, Protocol: cluster.TCP},
		"http://web.shop":       {Name: "web.shop", Port: 80, Protocol: cluster.TCP},
		"https://web.shop/a/b":  {Name: "web.shop", Port: 443, Protocol: cluster.TCP},
		"HTTP://web.shop:81/?q": {Name: "web.shop", Port: 81, Protocol: cluster.TCP},
		"http://10.43.0.7/a:b":  {At: at("10.43.0.7:80"), Protocol: cluster.TCP},
		"http://[fd00::7]:81":   {At: at("[fd00::7]:81"), Protocol: cluster.TCP},
		"10.43.0.7":             {At: at("10.43.0.7:0")},
		"10.43.0.7:80":          {At: at("10.43.0.7:80")},
		"10.43.0.7:53/udp":      {At: at("10.43.0.7:53"), Protocol: cluster.UDP},
		"::ffff:10.43.0.7":      {At: at("10.43.0.7:0")},
		"fd00::7":               {At: at("[fd00::7]:0")},
		"[fd00::7]":             {At: at("[fd00::7]:0")},
		"[fd00::7]:80/SCTP":     {At: at("[fd00::7]:80"), Protocol: cluster.SCTP},
		"30080":                 {At: at("0.0.0.0:30080")},
		":30080":                {At: at("0.0.0.0:30080")},
		"30080/TCP":             {At: at("0.0.0.0:30080"), Protocol: cluster.TCP},
		"70000":                 {Name: "70000"},
		"0":                     {Name: "0"},
		"10-42-0-7.shop.pod.c.": {Name: "10-42-0-7.shop.pod.c."},
	} {
		want.Text = text
		if got, err := ParseTarget(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "a b", "a\x1b[31m", "a/b/c", "/web", "shop/", "10.43.0.7:80/", "10.43.0.7:80/icmp", "a:80/icmp", "a:", "a:0", "a:b", ":x", "a/b/c:80", "ftp://a", "http://", "http://:80", "http://80", "10.43.0.7:99999", strings.Repeat("a", 301)} {
		if got, err := ParseTarget(text); err == nil {
			t.Errorf("%q is taken: %+v", text, got)
		}
	}
}

// Whatever is given, one of the three kinds is meant, or there is an error.
func FuzzParseTarget(f *testing.F) {
	for _, text := range []string{"web.shop", "shop/web", "10.43.0.7:80/TCP", "[fd00::7]:80", "30080/udp", "a/b/c", ":"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTarget(text)
		kinds := 0
		for _, is := range []bool{got.Name != "", got.Service != cluster.ServiceName{}, got.At.IsValid()} {
			if is {
				kinds++
			}
		}
		if err == nil && kinds != 1 {
			t.Errorf("%q: %+v", text, got)
		}
		if err == nil && got.At.IsValid() && got.At.Addr().Is4In6() {
			t.Errorf("%q: %v is not unmapped", text, got.At)
		}
	})
}

func TestCandidates(t *testing.T) {
	names := func(all []Name) (out []string) {
		for _, n := range all {
			out = append(out, n.Name)
		}
		return out
	}
	for _, c := range []struct {
		name string
		want []string
	}{
		{"web", []string{"web.shop.svc.c.", "web.svc.c.", "web.c.", "web."}},
		{"a.b.c.d.e.f", []string{"a.b.c.d.e.f.", "a.b.c.d.e.f.shop.svc.c.", "a.b.c.d.e.f.svc.c.", "a.b.c.d.e.f.c."}},
		{"web.", []string{"web."}},
	} {
		if got := names(Candidates(c.name, "shop", []string{"c."})); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	if got := names(Candidates("web", "shop", []string{"."})); !slices.Equal(got, []string{"web.shop.svc.", "web.svc.", "web.", "web."}) {
		t.Errorf("in the root zone: %q", got)
	}
}

// slowEdits is the definition.
func slowEdits(a, b string) int {
	if a == "" || b == "" {
		return len(a) + len(b)
	}
	differ := 1
	if a[0] == b[0] {
		differ = 0
	}
	least := min(slowEdits(a[1:], b)+1, slowEdits(a, b[1:])+1, slowEdits(a[1:], b[1:])+differ)
	if len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0] {
		least = min(least, slowEdits(a[2:], b[2:])+1)
	}
	return least
}

func TestEdits(t *testing.T) {
	words := []string{"", "a", "ab", "ba", "web", "wbe", "weeb", "we", "shop", "shpo", "hops", "abcd", "dcba"}
	for _, a := range words {
		for _, b := range words {
			want := slowEdits(a, b)
			for most := range 6 {
				got := edits(a, b, most)
				if want <= most && got != want || want > most && got <= most {
					t.Errorf("%q, %q, at most %d: %d, want %d", a, b, most, got, want)
				}
			}
		}
	}
}
