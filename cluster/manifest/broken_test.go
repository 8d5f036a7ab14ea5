package manifest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a file had and that may be in what cannot be read stays; what is sound in it is
// taken.
func TestBrokenFileKeepsLastGood(t *testing.T) {
	good := serviceText("one", 1) + "---\n" + serviceText("two", 1)
	const two = "error: DIR/a.yaml:6: Service default/two: this object was in the file and is not found there now; it may be in this document"
	for name, broken := range map[string]struct {
		text, problem string
		then          []string // of Service one
		told          string
	}{
		"broken YAML":     {serviceText("one", 2) + "---\n{", "a.yaml:6: the YAML cannot be read", []string{"tcp/2"}, two},
		"no object":       {serviceText("one", 2) + "---\nhello", "a.yaml:6: this is no Kubernetes object", []string{"tcp/2"}, two},
		"no kind":         {serviceText("one", 2) + "---\nmetadata: {name: two}", "a.yaml:6: object default/two: apiVersion and kind are missing", []string{"tcp/2"}, two},
		"a template":      {serviceText("one", 2) + "---\n{{- if .Values.two }}\n", "a.yaml:6: Service default/two: this object was in the file", []string{"tcp/2"}, two},
		"cut off":         {serviceText("one", 2) + "---\napiVersion: v1\n", "a.yaml:6: kind is missing", []string{"tcp/2"}, two},
		"broken in List":  {serviceText("one", 2) + "---\n{apiVersion: v1, kind: List, items: [{metadata: {name: two}}]}", "a.yaml:6: object default/two: apiVersion and kind are missing", []string{"tcp/2"}, two},
		"too large":       {serviceText("one", 2) + strings.Repeat("# Much.\n", maxFileSize/8), "a.yaml: the file cannot be read: it is larger than 8 MiB", []string{"!tcp/2"}, ""},
		"too many levels": {strings.Repeat("[", 20_000), "a.yaml:1: the YAML cannot be read: exceeded max depth", []string{"!tcp/2"}, "a.yaml:1: Service default/two"},
		"empty":           {"", "a.yaml: the file is empty now; what it held stays in force: to delete that, remove the file", []string{"!tcp/2"}, "a.yaml: Service default/two"},
		"alias bomb":      {aliasBomb(), "a.yaml:1: the YAML cannot be read: with its aliases written out", []string{"!tcp/2"}, "a.yaml:1: Service default/two"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := start(t, folderWith(t, map[string]string{"a.yaml": good, "b.yaml": serviceText("beside", 1)}))
			// In one step: 8 MiB take long enough to be read by halves.
			whole := filepath.Join(t.TempDir(), "a.yaml")
			write(t, whole, broken.text)
			must(t, os.Rename(whole, l.path("a.yaml")))
			l.awaitProblem("error: DIR/"+broken.problem, broken.told)
			write(t, l.path("b.yaml"), serviceText("beside", 5))
			l.await(append(broken.then, "default/beside", "tcp/5", "default/one", "default/two")...)
			write(t, l.path("a.yaml"), serviceText("one", 3))
			l.await("default/beside", "default/one", "tcp/3", "!default/two")
			l.awaitProblem("!error")
		})
	}
}

// One document that never could be read freezes nothing beside it.
func TestBrokenDocumentFreezesNothing(t *testing.T) {
	const broken = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: {app: web}\n"
	l := start(t, folderWith(t, map[string]string{"app.yaml": serviceText("web", 1) + "---\n" + serviceText("more", 1) + broken}))
	l.await("default/web", "default/more", "!tcp/2")
	write(t, l.path("app.yaml"), serviceText("web", 2)+"---\n"+serviceText("more", 1)+broken)
	l.await("tcp/2")
	write(t, l.path("app.yaml"), serviceText("web", 2)+broken+"---\n"+serviceText("added", 3))
	l.await("default/web", "default/added", "!default/more") // which was beside that document
	l.awaitProblem("app.yaml:8: the YAML cannot be read", "!default/more")
	l.awaitFreshStart()
}

// A file that is gone takes its objects with it, whatever other files are, and over a
// restart.
func TestFileGoneBesideBrokenFile(t *testing.T) {
	options := folderWith(t, map[string]string{"broken.yaml": "service: {\n", "web.yaml": serviceText("web", 1), "sub/db.yaml": serviceText("db", 1)})
	l := start(t, options)
	l.await("incomplete", "default/web", "default/db")
	must(t, os.Remove(l.path("web.yaml")))
	l.await("!default/web", "default/db")
	l.stop()
	must(t, os.Remove(l.path("sub/db.yaml"))) // while nobody looks
	l = start(t, options)
	l.await("!default/web", "!default/db")
	l.awaitProblem("!only its addresses")
}

// What is no manifest, and never held an object, has nothing of a folder: neither
// what is gone from other files, nor what another run has left in the kernel.
func TestOtherFilesHoldNothing(t *testing.T) {
	options := folderWith(t, map[string]string{
		"values.yaml":            "service:\n  port: 80\n",
		"Chart.yaml":             "apiVersion: v2\nname: shop\nversion: 0.1.0\n",
		"kustomization.yaml":     "resources: [web.yaml]\n",
		"patch.yaml":             "- {op: add, path: /spec/type, value: NodePort}\n",
		"templates/service.yaml": "apiVersion: v1\nkind: Service\nmetadata:\n  name: {{ .Values.name }}\n",
		"templates/quoted.yaml":  "apiVersion: v1\nkind: Service\nmetadata:\n  name: \"{{ .Values.name }}\"\n",
		"crd.yaml":               "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: parts.example.com}\n",
		"web.yaml":               serviceText("web", 1),
	})
	l := start(t, options)
	l.await("!incomplete", "default/web")
	l.awaitProblem("!error",
		"notice: DIR/values.yaml:1: this is no Kubernetes object, so it is ignored",
		"notice: DIR/Chart.yaml:1: this is no Kubernetes object, so it is ignored",
		"notice: DIR/kustomization.yaml:1: this is no Kubernetes object, so it is ignored",
		"notice: DIR/patch.yaml:1: this is a list and no Kubernetes object, so it is ignored",
		"notice: DIR/templates/service.yaml:1: this is a template and no manifest, so it is ignored",
		"notice: DIR/templates/quoted.yaml:1: this is a template and no manifest, so it is ignored",
		"notice: DIR/crd.yaml:1: objects of kind CustomResourceDefinition (apiextensions.k8s.io/v1) are ignored")
	must(t, os.Remove(l.path("web.yaml")))
	l.await("!default/web")
	l.stop()
	write(t, l.path("web.yaml"), serviceText("web", 1))
	l = start(t, options)
	l.await("default/web")
	l.stop()
	must(t, os.Remove(l.path("web.yaml")))
	l = start(t, options)
	l.await("!incomplete", "!default/web")
	l.awaitProblem("!error")
}

// What is known from the state file alone is told by name, with the file that it is
// in, and goes when that can be read or is gone.
func TestRememberedIsTold(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": serviceText("a", 1), "b.yaml": serviceText("b", 1), "c.yaml": serviceText("c", 1)})
	l := start(t, options)
	l.await("default/a", "default/b", "default/c")
	l.stop()
	write(t, l.path("a.yaml"), serviceText("a", 0))
	write(t, l.path("b.yaml"), "{")
	write(t, l.path("c.yaml"), serviceText("other", 1))
	l = start(t, options)
	l.await("incomplete", "default/a", "default/b", "!default/c", "default/other", "!endpoint")
	for _, name := range []string{"a", "b"} {
		l.awaitProblem(fmt.Sprintf("error: %s: Service default/%s: only its addresses are known, from an earlier run: it may be in DIR/%s.yaml; ", options.State, name, name))
	}
	must(t, os.Remove(l.path("a.yaml")))
	l.await("incomplete", "!default/a", "default/b")
	must(t, os.Rename(l.path("b.yaml"), l.path("d.yaml")))
	l.await("!default/b")
	l.awaitProblem("!only its addresses")
}

// A state file of a version that did not know files: what it has may be anywhere.
func TestRememberedWithoutFile(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": "{", "b.yaml": serviceText("b", 0)})
	write(t, options.State, `{"version": 1, "services": {"default/a": ["10.43.200.200"], "default/b": ["10.43.200.201"]}, "files": {"../b.yaml": ["default/b"]}}`)
	l := start(t, options)
	l.await("default/a ClusterIP [10.43.200.200]", "default/b ClusterIP [10.43.200.201]")
	l.awaitProblem("Service default/a: only its addresses are known, from an earlier run: it may be in DIR/a.yaml; ",
		"Service default/b: only its addresses are known, from an earlier run: it may be in DIR/b.yaml; ")
	must(t, os.Remove(l.path("a.yaml")))
	l.await("!default/a", "default/b ClusterIP [10.43.200.201]")
}

// An object that moves to another file is found there, though the first cannot be read
// any more; and it is gone with that one.
func TestMovedOutOfBrokenFile(t *testing.T) {
	l := start(t, folderWith(t, map[string]string{"a.yaml": serviceText("web", 1)}))
	write(t, l.path("a.yaml"), "{")
	l.awaitProblem("a.yaml:1: Service default/web: this object was in the file")
	write(t, l.path("b.yaml"), serviceText("web", 2))
	l.await("default/web", "tcp/2")
	l.awaitProblem("!Service default/web: this object", "!is also in")
	must(t, os.Remove(l.path("b.yaml")))
	l.await("!default/web")
}

// aliasBomb is a small text that a decoder would write out as gigabytes.
func aliasBomb() string {
	var b strings.Builder
	fmt.Fprintf(&b, "a0: &a0 %s\n", strings.Repeat("x", 1000))
	for i := range 20 {
		fmt.Fprintf(&b, "a%d: &a%d [*a%d, *a%d, *a%d]\n", i+1, i+1, i, i, i)
	}
	return b.String()
}

// A file that cannot be read gives way to one that can.
func TestMovedOutOfUnreadableFile(t *testing.T) {
	l := start(t, folderWith(t, map[string]string{"a.yaml": serviceText("web", 1)}))
	must(t, os.Truncate(l.path("a.yaml"), maxFileSize+1))
	l.awaitProblem("error: DIR/a.yaml: the file cannot be read")
	write(t, l.path("b.yaml"), serviceText("web", 2))
	l.await("default/web", "tcp/2")
	write(t, l.path("a.yaml"), serviceText("web", 1))
	l.awaitProblem("error: DIR/a.yaml:1: Service default/web: this object is also in DIR/b.yaml:1, which counts")
	l.await("tcp/2")
}

// That nothing is wrong is something to report; nil is for when nobody looks any more.
func TestNothingIsWrong(t *testing.T) {
	s, err := New(folderWith(t, map[string]string{"a.yaml": serviceText("one", 1)}), func([]Problem) {})
	if err != nil {
		t.Fatal(err)
	}
	if all := s.allProblems(); all == nil || len(all) > 0 {
		t.Errorf("problems %v, nil: %t", all, all == nil)
	}
}
