package kubernetes

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/text/encoding/unicode"
)

// web is a Service as a file has it. Its port tells it from others of its name.
func web(name string, port int) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata:\n  name: %s\nspec:\n  ports:\n  - port: %d\n", name, port)
}

func webJSON(name string, port int) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Service", "metadata": {"name": %q}, "spec": {"ports": [{"port": %d}]}}`, name, port)
}

// indented makes an item of a List of an object.
func indented(text string) string {
	return "- " + strings.TrimSuffix(strings.ReplaceAll(text, "\n", "\n  "), "  ")
}

const list = "apiVersion: v1\nkind: List\nitems:\n"

// utf16 encodes a text in UTF-16, with a byte order mark.
func utf16(text string, order unicode.Endianness) string {
	encoded, err := unicode.UTF16(order, unicode.UseBOM).NewEncoder().String(text)
	if err != nil {
		panic(err)
	}
	return encoded
}

// fileCase is a file, and the Services that kubectl makes of it, as "name port". The
// folder has the same, except where it says why it has others.
type fileCase struct {
	name, text string
	kubectl    string
	folder     string
	why        string
}

const (
	// YAML has a document there. kubectl loses it without a word, or refuses the file.
	yamlHasIt = "YAML has it, and nobody gains from losing it"
	// An error of the folder is worth more than an object lost.
	loud = "kubectl loses the second without a word; the folder says so"
	// Others in the file do not depend on it.
	goesOn = "kubectl ends at the fault; a folder goes on with what is sound"
)

var fileCases = []fileCase{
	{name: "one", text: web("a", 1), kubectl: "a 1"},
	{name: "documents", text: web("a", 1) + "---\n" + web("b", 2), kubectl: "a 1, b 2"},
	{name: "a document twice", text: web("a", 1) + "---\n" + web("a", 1), kubectl: "a 1, a 1", folder: "a 1",
		why: "for the API server the second is the first once more, or there already; a folder has each object once, and says so"},
	{name: "empty", text: ""},
	{name: "a line feed", text: "\n"},
	{name: "comments", text: "# a\n---\n# b\n"},
	{name: "empty documents", text: "---\n---\n# c\n---\n\n" + web("a", 1) + "---\n---\n", kubectl: "a 1"},
	{name: "null", text: "---\nnull\n---\n~\n---\n" + web("a", 1), kubectl: "a 1"},
	{name: "marker with a comment", text: "--- # a\n" + web("a", 1) + "---   # b\n" + web("b", 2), kubectl: "a 1, b 2"},
	{name: "marker run into a comment", text: web("a", 1) + "---# b\n" + web("b", 2), kubectl: "a 1, b 2"},
	{name: "marker with content", text: web("a", 1) + "--- " + webJSON("b", 2) + "\n", folder: "a 1, b 2", why: yamlHasIt},
	{name: "marker with more dashes", text: web("a", 1) + "----\n" + web("b", 2)},
	{name: "end of a document", text: web("a", 1) + "...\n---\n" + web("b", 2) + "...\n", kubectl: "a 1, b 2"},
	{name: "end without a beginning", text: web("a", 1) + "...\n" + web("b", 2), kubectl: "a 1", folder: "a 1, b 2", why: yamlHasIt},
	{name: "directive", text: "%YAML 1.1\n---\n" + web("a", 1), folder: "a 1", why: yamlHasIt},
	{name: "carriage returns", text: strings.ReplaceAll(web("a", 1)+"---\n"+web("b", 2), "\n", "\r\n"), kubectl: "a 1, b 2"},
	{name: "carriage returns alone", text: strings.ReplaceAll(web("a", 1)+"---\n"+web("b", 2), "\n", "\r"), kubectl: "a 1", folder: " ", why: loud},
	{name: "no line feed at the end", text: strings.TrimSuffix(web("a", 1), "\n"), kubectl: "a 1"},
	{name: "tab before a comment", text: strings.Replace(web("a", 1), "kind: Service", "kind: Service\t# c", 1), kubectl: "a 1"},
	{name: "tab after a colon", text: strings.Replace(web("a", 1), "kind: ", "kind:\t", 1), kubectl: "a 1"},
	{name: "tab as indentation", text: strings.Replace(web("a", 1), "  name", "\tname", 1)},
	{name: "tabs in a flow mapping", text: "{\n\tapiVersion: v1,\n\tkind: Service,\n\tmetadata: {name: a},\n\tspec: {ports: [{port: 1}]}\n}\n", kubectl: "a 1"},

	{name: "UTF-8 with a mark", text: "\ufeff" + web("a", 1), kubectl: "a 1"},
	{name: "JSON with a mark", text: "\ufeff" + webJSON("a", 1), kubectl: "a 1"},
	{name: "mark in a later document", text: web("a", 1) + "---\n\ufeff" + web("b", 2), kubectl: "a 1, b 2"},
	{name: "mark before a marker", text: web("a", 1) + "\ufeff---\n" + web("b", 2), folder: "a 1, b 2", why: "files that were put together, as cat does it"},
	{name: "UTF-16 little-endian", text: utf16(web("a", 1)+"---\n"+web("b", 2), unicode.LittleEndian), kubectl: "a 1, b 2"},
	{name: "UTF-16 big-endian", text: utf16(webJSON("a", 1), unicode.BigEndian), kubectl: "a 1"},
	{name: "Latin-1 in a comment", text: "# caf\xe9\n" + web("a", 1), kubectl: "a 1"},

	{name: "key twice", text: web("a", 1) + "  - port: 2\n    port: 3\n    name: x\n  - port: 4\n    name: y\n    name: z\n", kubectl: "", folder: ""},
	{name: "port twice", text: strings.Replace(web("a", 1), "port: 1", "port: 1\n    port: 2", 1), kubectl: "a 2"},
	{name: "label twice", text: strings.Replace(web("a", 1), "name: a", "name: a\n  labels:\n    app: one\n    app: two", 1), kubectl: "a 1"},
	{name: "spec twice", text: web("a", 1) + "spec:\n  ports:\n  - port: 2\n", kubectl: "a 2"},
	{name: "JSON spec twice", text: strings.Replace(webJSON("a", 1), `"spec"`, `"spec": {"clusterIP": "None"}, "spec"`, 1), kubectl: "a 1"},
	{name: "name twice", text: strings.Replace(web("a", 1), "name: a", "name: a\n  name: b", 1), kubectl: "b 1"},
	{name: "label twice in another kind", text: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, labels: {a: one, a: two}}\n---\n" + web("a", 1), kubectl: "a 1"},
	{name: "alias", text: "apiVersion: v1\nkind: Service\nmetadata: {name: &name a, labels: {app: *name}}\nspec: {ports: [{port: 1}], selector: {app: *name}}\n", kubectl: "a 1"},
	{name: "merge key", text: "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: &l {app: x}}\nspec: {ports: [{port: 1}], selector: {<<: *l, tier: one}}\n", kubectl: "a 1"},
	{name: "merge key that is overridden", text: "apiVersion: v1\nkind: Service\nmetadata: {name: a, labels: &l {app: x}}\nspec: {ports: [{port: 1}], selector: {<<: *l, app: other}}\n", kubectl: "a 1"},
	{name: "merged port", text: "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [&p {port: 1, protocol: TCP}, {name: b, port: 2, <<: *p}]}\n", folder: ""},
	{name: "alias of another document", text: "apiVersion: v1\nkind: Service\nmetadata: {name: &name a}\nspec: {ports: [{port: 1}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: *name}\n", kubectl: "a 1"},
	{name: "alias without an anchor", text: strings.Replace(web("a", 1), "name: a", "name: *a", 1)},

	{name: "JSON", text: webJSON("a", 1), kubectl: "a 1"},
	{name: "JSON stream in lines", text: webJSON("a", 1) + "\n" + webJSON("b", 2) + "\n", kubectl: "a 1, b 2"},
	{name: "JSON stream in one line", text: webJSON("a", 1) + webJSON("b", 2) + " " + webJSON("c", 3), kubectl: "a 1, b 2, c 3"},
	{name: "JSON and a marker", text: webJSON("a", 1) + "\n---\n" + webJSON("b", 2), kubectl: "a 1, b 2"},
	{name: "JSON and YAML", text: webJSON("a", 1) + "\n---\n" + web("b", 2), kubectl: "a 1, b 2"},
	{name: "JSON and YAML without a marker", text: webJSON("a", 1) + "\n" + web("b", 2), kubectl: "a 1, b 2"},
	{name: "YAML and JSON", text: web("a", 1) + "---\n" + webJSON("b", 2), kubectl: "a 1, b 2"},
	{name: "YAML and a JSON stream", text: web("a", 1) + "---\n" + webJSON("b", 2) + "\n" + webJSON("c", 3), kubectl: "a 1, b 2", folder: "a 1, b 2, c 3", why: "kubectl loses the second value without a word"},
	{name: "JSON stream and a marker", text: webJSON("a", 1) + "\n" + webJSON("b", 2) + "\n---\n" + webJSON("c", 3), kubectl: "a 1, b 2", folder: "a 1, b 2, c 3", why: goesOn},
	{name: "JSON with a comment of YAML", text: strings.Replace(webJSON("a", 1), `"kind"`, "# c\n\"kind\"", 1), kubectl: "a 1"},
	{name: "JSON with a comment of JavaScript", text: strings.Replace(webJSON("a", 1), `"kind"`, "// c\n\"kind\"", 1)},
	{name: "JSON with a comma too many", text: strings.Replace(webJSON("a", 1), "]}}", "]},}", 1), kubectl: "a 1"},
	{name: "JSON after a comment", text: "# c\n" + webJSON("a", 1), kubectl: "a 1"},
	{name: "JSON stream after a comment", text: "# c\n" + webJSON("a", 1) + "\n" + webJSON("b", 2), kubectl: "a 1", folder: "a 1, b 2", why: "kubectl loses the second value without a word"},
	{name: "two flow mappings", text: "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 1}]}}\n" + webJSON("b", 2), kubectl: "a 1", folder: " ", why: loud},
	{name: "JSON cut off", text: webJSON("a", 1)[:60]},

	{name: "List", text: list + indented(web("a", 1)) + indented(web("b", 2)), kubectl: "a 1, b 2"},
	{name: "List in a List", text: list + indented(list+indented(web("a", 1))) + indented(web("b", 2)), folder: "a 1, b 2", why: "kubectl 1.37 takes no Lists in Lists, and it is as clear as one List what they mean"},
	{name: "List without items", text: "apiVersion: v1\nkind: List\n"},
	{name: "List of nothing", text: list + "  []\n"},
	{name: "ServiceList", text: "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n  spec: {ports: [{port: 1}]}\n", kubectl: "a 1"},
	{name: "another list of Services", text: "apiVersion: v1\nkind: ConfigMapList\nitems:\n" + indented(web("a", 1)), folder: "a 1", why: "kubectl's validation takes the items for ConfigMaps; without it they are what they say, as here"},
	{name: "List of another version", text: "apiVersion: v2\nkind: List\nitems:\n" + indented(web("a", 1))},
	{name: "List without a version", text: "kind: List\nitems:\n" + indented(web("a", 1))},
	{name: "List with a fault", text: list + indented(web("a", 0)) + indented(web("b", 2)), kubectl: "b 2"},
	{name: "a list, no List", text: indented(web("a", 1))},

	{name: "quoted port", text: strings.Replace(web("a", 1), "port: 1", `port: "1"`, 1)},
	{name: "port as a float", text: strings.Replace(web("a", 1), "port: 1", "port: 1.0", 1), kubectl: "a 1"},
	{name: "port in octal", text: strings.Replace(web("a", 1), "port: 1", "port: 0120", 1), kubectl: "a 80"},
	{name: "label as a number", text: strings.Replace(web("a", 1), "name: a", "name: a\n  labels: {a: 1}", 1)},
	{name: "annotation as a number", text: strings.Replace(web("a", 1), "name: a", "name: a\n  annotations: {clusterip.io/weight: 5}", 1)},
	{name: "yes as a label", text: strings.Replace(web("a", 1), "name: a", "name: a\n  labels: {a: yes}", 1)},
	{name: "name as a number", text: strings.Replace(web("a", 1), "name: a", "name: 1", 1)},
	{name: "unknown field", text: web("a", 1) + "  colour: red\n", folder: "a 1", why: "a folder may have fields of a newer Kubernetes: a notice, since they do not count"},
	{name: "field in another case", text: web("a", 1) + "  Type: NodePort\n", folder: "a 1", why: "as an unknown field"},
	{name: "status", text: web("a", 1) + "status:\n  loadBalancer: {}\n", kubectl: "a 1"},
	{name: "nulls", text: strings.Replace(web("a", 1), "name: a", "name: a\n  labels: null\n  annotations:", 1), kubectl: "a 1"},
	{name: "creationTimestamp null", text: strings.Replace(web("a", 1), "name: a", "name: a\n  creationTimestamp: null", 1), kubectl: "a 1"},

	{name: "no name", text: strings.Replace(web("a", 1), "name: a", "labels: {}", 1)},
	{name: "generateName", text: strings.Replace(web("a", 1), "name: a", "generateName: a-", 1), kubectl: "a- 1", folder: " ",
		why: "kubectl apply refuses it as well: a folder has to know its objects again"},
	{name: "generateName and name", text: strings.Replace(web("a", 1), "name: a", "name: a\n  generateName: b-", 1), kubectl: "a 1"},
	{name: "no kind", text: strings.Replace(web("a", 1), "kind: Service\n", "", 1)},
	{name: "no apiVersion", text: strings.Replace(web("a", 1), "apiVersion: v1\n", "", 1)},
	{name: "kind in another case", text: strings.Replace(web("a", 1), "Service", "service", 1)},
	{name: "wrong version", text: strings.Replace(web("a", 1), "v1", "v2", 1)},
	{name: "kind of another group", text: "apiVersion: example.com/v1\nkind: Service\nmetadata: {name: x}\n---\n" + web("a", 1), kubectl: "a 1", folder: "a 1", why: "the folder's cluster has no definitions of kinds, and needs none"},
	{name: "values", text: "replicas: 3\n---\n" + web("a", 1), folder: "a 1", why: goesOn},
	{name: "text", text: "hello\n---\n" + web("a", 1), folder: "a 1", why: goesOn},
	{name: "template", text: "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Values.name }}\n---\n" + web("a", 1), folder: "a 1", why: goesOn},
	{name: "broken in the middle", text: web("a", 1) + "---\n{\n---\n" + web("b", 2), kubectl: "a 1", folder: "a 1, b 2", why: goesOn},
}

// A folder has what kubectl makes of a file, with its validation on, and an API server
// that does all but write.
func TestFiles(t *testing.T) {
	a := startAPIServer(t)
	for _, test := range fileCases {
		t.Run(test.name, func(t *testing.T) {
			taken, err := a.wouldCreate(t, test.text)
			if diff := cmp.Diff(test.kubectl, strings.Join(taken, ", ")); diff != "" {
				t.Errorf("kubectl has others than is said here (-): %v\n%s", err, diff)
			}
			want := test.kubectl
			if (test.folder != "") != (test.why != "") {
				t.Fatal("a difference has a reason")
			}
			if test.why != "" {
				want = strings.TrimSpace(test.folder)
			}
			served, problems := load(t, test.text)
			ours, theirs := strings.Split(want, ", "), served
			slices.Sort(ours)
			slices.Sort(theirs)
			if diff := cmp.Diff(strings.Join(ours, ", "), strings.Join(theirs, ", ")); diff != "" {
				t.Errorf("the folder has others than are wanted (-), kubectl says %v:\n%s\n%v", err, diff, problems)
			}
			// What is not served is told, and nothing is at fault that kubectl takes whole.
			isFaulty := slices.ContainsFunc(problems, func(p manifest.Problem) bool { return p.Severity == manifest.Error })
			if (err == nil) == isFaulty && test.why == "" {
				t.Errorf("kubectl says %v, the folder %v", err, problems)
			}
		})
	}
}

// load returns the Services of a folder that has one file.
func load(t *testing.T, text string) (services []string, problems []manifest.Problem) {
	t.Helper()
	folder := manifest.Options{Dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(folder.Dir, "file.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	u, problems, err := manifest.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range u.Services {
		services = append(services, fmt.Sprintf("%s %d", s.Name.Name, s.Service.Ports[0].Port))
	}
	return services, problems
}

// wouldCreate returns the Services that kubectl would create of a file, each with its
// first port.
func (a *apiServer) wouldCreate(t *testing.T, text string) (services []string, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	const print = `{{if eq .kind "Service"}}{{.metadata.name}} {{(index .spec.ports 0).port}}{{"\n"}}{{end}}`
	out, err := a.Kubectl("create", "--dry-run=server", "-f", path, "-o", "go-template="+print)
	if err != nil && strings.Contains(err.Error(), "error: no objects passed to create") {
		err = nil // a folder has other files
	}
	for line := range strings.Lines(out) {
		services = append(services, generated.ReplaceAllString(strings.TrimSpace(line), "a-"))
	}
	return services, err
}

// generated is the name that the API server makes of generateName a-.
var generated = regexp.MustCompile(`^a-\w{5}`)
