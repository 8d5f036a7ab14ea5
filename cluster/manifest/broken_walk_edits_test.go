package manifest

import (
	"context"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/go-cmp/cmp"
)

// brokenWalk edits a folder in which documents and files are broken and mended, with a
// Source that looks at it after each edit.
type brokenWalk struct {
	t       *testing.T
	rng     *rand.Rand
	options Options
	files   map[string]*testFile
	texts   int // that no YAML, or no object, was made of
	twin    *twin
	source  *Source
	store   *cluster.Store
	edits   []string // the last ones, to tell
}

func newBrokenWalk(t *testing.T, seed int64) *brokenWalk {
	w := &brokenWalk{t: t, rng: rand.New(rand.NewSource(seed)), options: folderWith(t, nil), files: map[string]*testFile{}, twin: newTwin()}
	w.open()
	return w
}

// open starts a Source.
func (w *brokenWalk) open() {
	var err error
	w.source, err = New(w.options, nil)
	must(w.t, err)
	w.source.remembered = w.source.state.load(w.source.allocator)
	w.store = cluster.NewStore()
}

func (w *brokenWalk) step() {
	w.t.Helper()
	for first := range 1 + w.rng.Intn(3) {
		w.edits = append(w.edits, w.edit(first == 0))
		if strings.HasPrefix(w.edits[len(w.edits)-1], "too long") {
			break // what it holds is what was read
		}
	}
	if w.rng.Intn(12) == 0 {
		w.edits = append(w.edits, "restart")
		w.twin = w.twin.restart(w.source.allocator.Allocations())
		w.open()
	}
	w.source.folder.scan(context.Background())
	w.store.Apply(w.source.link())
	w.source.state.save(w.source.present())
	w.twin.look(w.files)
	w.check("the running Source", w.twin, w.store.Snapshot())
	w.checkTold(w.twin, w.source.allProblems())

	fresh := w.twin.restart(w.source.allocator.Allocations())
	fresh.look(w.files)
	u, problems, err := Load(w.options)
	must(w.t, err)
	w.check("a fresh start", fresh, u)
	w.checkTold(fresh, problems)
}

func (w *brokenWalk) check(what string, twin *twin, got cluster.Update) {
	w.t.Helper()
	if diff := cmp.Diff(twin.published(w.t, w.options.State), servicesAndPods(got)); diff != "" {
		w.fail("%s (+) differs from its twin (-):\n%s", what, diff)
	}
}

func (w *brokenWalk) fail(format string, args ...any) {
	w.t.Helper()
	for path := range w.files {
		w.t.Logf("%s:\n%s", path, w.files[path].text())
	}
	w.t.Fatalf(format+"\nafter %q", append(args, w.edits[max(0, len(w.edits)-8):])...)
}

// checkTold holds the Source to naming what is not taken, with its file, and nothing
// else.
func (w *brokenWalk) checkTold(twin *twin, problems []Problem) {
	w.t.Helper()
	told, all := map[string]bool{}, ""
	for _, p := range problems {
		if p.Severity == Error {
			told[p.File+" "+p.Object] = true
			told[p.File] = told[p.File] || p.Line == 0
			all += p.Error() + "\n"
		}
	}
	wanted := 0
	want := func(file, object string) {
		w.t.Helper()
		wanted++
		if !told[file+" "+object] {
			w.fail("nothing is told of %q in %s:\n%s", object, file, all)
		}
	}
	for name, file := range w.files {
		path := filepath.Join(w.options.Dir, name)
		if file.tooLong {
			want(path, "")
			continue
		}
		for key, o := range twin.files[name] {
			if o.kept {
				want(path, key.String())
			}
		}
		for _, d := range file.documents {
			switch {
			case file.empty, strings.HasPrefix(d.text, "{{"): // a notice
			case d.fault == atFault:
				want(path, d.key.String())
			case d.fault == unreadable:
				want(path, d.told)
			}
		}
	}
	for name, file := range twin.remembered {
		want(w.options.State, "Service default/"+name)
		if !strings.Contains(all, "Service default/"+name+": only its addresses are known, from an earlier run: it may be in "+filepath.Join(w.options.Dir, file)) {
			w.fail("the file of %s, %s, is not told:\n%s", name, file, all)
		}
	}
	if wanted == 0 && all != "" {
		w.fail("all is well, and it says\n%s", all)
	}
}

var walkKeys = []objectKey{
	{"Service", "default", "s0"}, {"Service", "default", "s1"}, {"Service", "default", "s2"}, {"Service", "default", "s3"}, {"Service", "default", "h0"},
	{"Service", "default", "h1"}, {"Pod", "default", "p0"}, {"Pod", "default", "p1"}, {"Pod", "default", "p2"},
}

func (w *brokenWalk) path() string {
	return []string{"a.yaml", "b.yaml", "sub/c.yaml", "sub/d.yaml"}[w.rng.Intn(4)]
}

// edit changes one thing, in the folder and in the files that are known to be there.
func (w *brokenWalk) edit(first bool) string {
	path := w.path()
	file := w.files[path]
	switch n := w.rng.Intn(12); {
	case n == 0 && file != nil:
		w.remove(path)
		return "rm " + path
	case n == 1 && file != nil:
		to := w.path()
		if to == path || w.files[to] != nil {
			return "nothing"
		}
		w.remove(path)
		w.write(to, file)
		return "mv " + path + " " + to
	case file != nil && file.tooLong:
		file.tooLong = n > 5
		w.write(path, file)
		return fmt.Sprint("too long is ", file.tooLong, " of ", path)
	case n == 2 && file != nil:
		file.empty = true
		w.write(path, file)
		return "empty " + path
	case n == 3 && file != nil && first:
		file.tooLong = true
		w.write(path, file)
		return "too long " + path
	case file == nil:
		file = &testFile{}
	}
	file.empty = false
	did := w.editDocument(file)
	w.write(path, file)
	return did + " in " + path
}

// editDocument changes a document of a file, or adds one, from nowhere or from another
// file, or removes one.
func (w *brokenWalk) editDocument(file *testFile) string {
	key := walkKeys[w.rng.Intn(len(walkKeys))]
	home := ""
	for path, other := range w.files {
		for _, d := range other.documents {
			if d.key == key {
				home = path
			}
		}
	}
	d := testDocument{key: key, version: 1 + w.rng.Intn(9), fault: fault(w.rng.Intn(int(faults)))}
	if w.rng.Intn(2) == 0 {
		d.fault = sound
	}
	if d.fault == unreadable {
		w.texts++
		of := []struct{ text, told string }{
			{"{ # %d\n", ""},
			{"metadata: {name: of%[1]d}\n", "object default/of%[1]d"},
			{"kind: service\napiVersion: v%d\n", "Service without a name in namespace default"},
			{"apiVersion: v%d\n", ""},
			{"{{ template %d }}\n", ""},
		}[w.rng.Intn(5)]
		d.text, d.told = fmt.Sprintf(of.text, w.texts), of.told
		if strings.Contains(of.told, "%") {
			d.told = fmt.Sprintf(of.told, w.texts)
		}
	}
	did := fmt.Sprintf("%v becomes %d with fault %d", key, d.version, d.fault)
	at := len(file.documents)
	if other := w.files[home]; other != nil {
		if other.tooLong || other.empty {
			return "nothing"
		}
		i := 0
		for other.documents[i].key != key {
			i++
		}
		other.documents = append(other.documents[:i:i], other.documents[i+1:]...)
		w.write(home, other)
		did += ", out of " + home
		if other == file {
			at = i
		}
		if w.rng.Intn(4) == 0 {
			return fmt.Sprintf("%v is removed from %s", key, home)
		}
	}
	at = min(at, len(file.documents))
	file.documents = append(file.documents[:at:at], append([]testDocument{d}, file.documents[at:]...)...)
	return did
}

func (w *brokenWalk) write(path string, file *testFile) {
	w.files[path] = file
	where := filepath.Join(w.options.Dir, path)
	write(w.t, where, file.text())
	if file.tooLong {
		must(w.t, os.Truncate(where, maxFileSize+1))
	}
}

func (w *brokenWalk) remove(path string) {
	delete(w.files, path)
	must(w.t, os.Remove(filepath.Join(w.options.Dir, path)))
}
