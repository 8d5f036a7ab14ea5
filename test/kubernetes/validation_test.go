package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/test/kubetest"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"
)

// A folder takes what the API server takes, and refuses what it refuses, but for the
// differences that are listed. Every object is a sound one with one field changed: each of
// its kind's fields to each value of the field's table.
func TestFolderValidatesAsTheAPIServer(t *testing.T) {
	a := startAPIServer(t)
	a.namespace("shop")
	judge := newJudge(t, a)
	for _, o := range objects {
		judge.all(o)
	}
	t.Logf("%d objects compared: both take %d, both refuse %d, and %d are judged otherwise, for the reasons that are listed",
		judge.compared, judge.taken, judge.refused, judge.differing)
	for i, d := range differences {
		if judge.needed[i] == 0 {
			t.Errorf("the difference is not there any more, take it off the list: %s %s, where the folder %s %v: %s", d.kind, d.field, d.folder, d.values, d.why)
		}
	}
}

// object is a sound one of which others are made.
type object struct {
	name string // of the shape: "NodePort"
	// status says that it is written to the API server, and its status changed. Otherwise
	// it is created, which leaves status out.
	status   bool
	manifest string
	fields   map[string][]any // the values that are tried, by the path of the field
}

// absent is the value of a field that is removed.
type absent struct{}

// difference is what the folder judges otherwise than the API server.
type difference struct {
	kind string
	// field is a path; one that ends in * stands for all that begin so.
	field  string
	shapes []string // of the objects; nil: all
	folder verdict
	values []any // nil: all
	why    string
}

type verdict string

const (
	takes   verdict = "takes"
	refuses verdict = "refuses"
)

func (d *difference) covers(kind, shape, field string, value any, folder verdict) bool {
	prefix, all := strings.CutSuffix(d.field, "*")
	return d.kind == kind && d.folder == folder && (d.shapes == nil || slices.Contains(d.shapes, shape)) &&
		(field == d.field || all && strings.HasPrefix(field, prefix)) &&
		(d.values == nil || slices.ContainsFunc(d.values, func(v any) bool { return text(v) == text(value) }))
}

// judge asks both.
type judge struct {
	t                                   *testing.T
	client                              rest.Interface
	needed                              map[int]int // by the index of a difference
	compared, taken, refused, differing int
}

func newJudge(t *testing.T, a *apiServer) *judge {
	return &judge{t: t, client: a.Client.RESTClient(), needed: make(map[int]int)}
}

// all tries an object as it is, and then with each change.
func (j *judge) all(o object) {
	var sound map[string]any
	if err := yaml.Unmarshal([]byte(o.manifest), &sound); err != nil {
		j.t.Fatal(err)
	}
	if o.status {
		if verdict, said := j.send(sound, "", "POST"); verdict == refuses {
			j.t.Fatalf("%s: %s", o.name, said)
		}
	}
	j.compare(o, sound, "", nil)
	for _, field := range slices.Sorted(maps.Keys(o.fields)) {
		for _, value := range o.fields[field] {
			changed := clone(sound).(map[string]any)
			set(changed, strings.Split(field, "."), value)
			j.compare(o, changed, field, value)
		}
	}
}

// compare has the folder and the API server judge one object. The one without a change must be
// sound.
func (j *judge) compare(o object, changed map[string]any, field string, value any) {
	kind := changed["kind"].(string)
	request, dryRun := "POST", "All"
	if o.status {
		request = "PUT"
	}
	if strings.HasPrefix(field, "spec.") && kind == "Service" {
		dryRun = "" // with it no NodePort is looked at
	}
	server, serverSaid := j.send(changed, dryRun, request)
	if dryRun == "" && server == takes {
		j.remove(changed)
	}
	folder, folderSaid := j.load(changed)
	j.compared++
	switch {
	case field == "" && (server == refuses || folder == refuses):
		j.t.Errorf("%s %s is not sound: %s; %s", kind, o.name, serverSaid, folderSaid)
	case server == takes && folder == takes:
		j.taken++
	case server == refuses && folder == refuses:
		j.refused++
	default:
		j.differing++
		for i := range differences {
			if differences[i].covers(kind, o.name, field, value, folder) {
				j.needed[i]++
				return
			}
		}
		j.t.Errorf("%s %s with %s: %s: the folder %s it, %s; the API server %s it, %s", kind, o.name, field, text(value), folder, folderSaid, server, serverSaid)
	}
}

// resources are where the API server has the objects of a kind.
var resources = map[string]string{
	"Service":       "/api/v1/namespaces/shop/services",
	"Endpoints":     "/api/v1/namespaces/shop/endpoints",
	"Pod":           "/api/v1/namespaces/shop/pods",
	"Node":          "/api/v1/nodes",
	"EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
}

// send creates an object, or with PUT replaces its status, and returns what the API server
// says. With dryRun All nothing remains of it.
func (j *judge) send(o map[string]any, dryRun, request string) (verdict, string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path := resources[o["kind"].(string)]
	if request == "PUT" {
		path = pathOf(o) + "/status"
	}
	r := j.client.Verb(request).AbsPath(path).SetHeader("Content-Type", "application/json").Body([]byte(text(o)))
	if dryRun != "" {
		r.Param("dryRun", dryRun)
	}
	code := 0
	err := r.Do(ctx).StatusCode(&code).Error()
	switch {
	case code == 0:
		j.t.Fatal(err)
	case err != nil:
		return refuses, err.Error()
	}
	return takes, "without a word"
}

func pathOf(o map[string]any) string {
	return resources[o["kind"].(string)] + "/" + o["metadata"].(map[string]any)["name"].(string)
}

// remove deletes an object that was created.
func (j *judge) remove(o map[string]any) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := j.client.Delete().AbsPath(pathOf(o)).Do(ctx).Error(); err != nil {
		j.t.Fatal(err)
	}
}

// load has a folder with this one object read.
func (j *judge) load(o map[string]any) (verdict, string) {
	options := manifest.Options{Dir: j.t.TempDir()}
	for cidr := range strings.SplitSeq(kubetest.ServiceCIDRs, ",") {
		options.ServiceCIDRs = append(options.ServiceCIDRs, netip.MustParsePrefix(cidr))
	}
	if err := os.WriteFile(filepath.Join(options.Dir, "o.json"), []byte(text(o)), 0o644); err != nil {
		j.t.Fatal(err)
	}
	_, problems, err := manifest.Load(options)
	if err != nil {
		j.t.Fatal(err)
	}
	for _, p := range problems {
		if p.Severity == manifest.Error {
			return refuses, p.Err.Error()
		}
	}
	return takes, "without an error"
}

// text is a value as JSON has it.
func text(value any) string {
	if value == (absent{}) {
		return "(removed)"
	}
	out, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(err)
	}
	return string(out)
}

// clone copies the maps and lists of a decoded object.
func clone(value any) any {
	switch value := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(value))
		for k, v := range value {
			out[k] = clone(v)
		}
		return out
	case []any:
		out := make([]any, len(value))
		for i, v := range value {
			out[i] = clone(v)
		}
		return out
	}
	return value
}

// set changes the field at a path, of which a number is the index in a list. What is not there
// on the way is made.
func set(in any, path []string, value any) any {
	if len(path) == 0 {
		return value
	}
	if i, err := strconv.Atoi(path[0]); err == nil {
		list, _ := in.([]any)
		for len(list) <= i {
			list = append(list, nil)
		}
		list[i] = set(list[i], path[1:], value)
		return list
	}
	fields, _ := in.(map[string]any)
	if fields == nil {
		fields = make(map[string]any)
	}
	key := strings.ReplaceAll(path[0], "~", ".") // a key of a label may have dots
	if len(path) == 1 && value == (absent{}) {
		delete(fields, key)
		return fields
	}
	fields[key] = set(fields[key], path[1:], value)
	return fields
}
