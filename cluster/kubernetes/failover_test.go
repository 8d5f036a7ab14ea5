package kubernetes

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
)

// servers play API servers, some of which do not reply, or are about to end.
type servers struct {
	silent map[string]bool // by host
	ending map[string]bool
	asked  []string
}

func (s *servers) RoundTrip(r *http.Request) (*http.Response, error) {
	s.asked = append(s.asked, r.URL.String())
	if s.silent[r.URL.Host] {
		return nil, errors.New(r.URL.Host + " is silent")
	}
	if s.ending[r.URL.Host] {
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody}, nil
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
}

func TestFailover(t *testing.T) {
	config := &rest.Config{}
	if err := failOver(config, []string{"https://a/k", "http://b", "http://c/other/"}); err != nil {
		t.Fatal(err)
	}
	s := &servers{silent: make(map[string]bool)}
	trip := config.WrapTransport(s)
	base, _ := url.Parse("https://a/k/api/v1/services?watch=true")
	for _, c := range []struct {
		why    string
		silent []string
		method string
		asked  []string
		err    string
	}{
		{"the first", nil, "GET", []string{"https://a/k/api/v1/services?watch=true"}, ""},
		{"past two to the third", []string{"a", "b"}, "GET",
			[]string{"https://a/k/api/v1/services?watch=true", "http://b/api/v1/services?watch=true", "http://c/other/api/v1/services?watch=true"}, ""},
		{"it stays there", nil, "GET", []string{"http://c/other/api/v1/services?watch=true"}, ""},
		{"a request with a body is made once", []string{"c"}, "POST", []string{"http://c/other/api/v1/services?watch=true"}, "c is silent"},
		{"the next one goes elsewhere", []string{"c"}, "POST", []string{"https://a/k/api/v1/services?watch=true"}, ""},
		{"past one that ends", nil, "GET", []string{"https://a/k/api/v1/services?watch=true", "http://b/api/v1/services?watch=true"}, ""},
		{"none replies", []string{"a", "b", "c"}, "GET",
			[]string{"http://b/api/v1/services?watch=true", "http://c/other/api/v1/services?watch=true", "https://a/k/api/v1/services?watch=true"}, "a is silent"},
	} {
		s.asked, s.silent, s.ending = nil, make(map[string]bool), map[string]bool{"a": c.why == "past one that ends"}
		for _, host := range c.silent {
			s.silent[host] = true
		}
		r, err := http.NewRequest(c.method, base.String(), nil)
		if c.method == "POST" {
			r, err = http.NewRequest(c.method, base.String(), strings.NewReader("{}"))
		}
		if err != nil {
			t.Fatal(err)
		}
		response, err := trip.RoundTrip(r)
		if c.err == "" && (err != nil || response.StatusCode != http.StatusOK) || c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("%s: the reply is %v, error %v, want %q", c.why, response, err, c.err)
		}
		if !slices.Equal(s.asked, c.asked) {
			t.Errorf("%s: asked\n%s, want\n%s", c.why, strings.Join(s.asked, "\n"), strings.Join(c.asked, "\n"))
		}
		if r.URL.String() != base.String() {
			t.Errorf("%s: the caller's request is now for %s", c.why, r.URL)
		}
	}
}
