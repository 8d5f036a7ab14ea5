package manifest

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/allocator"
)

// The folder at each moment, in the words of docs/operations.md: what is in force, who
// is told of, and what a fresh start would say.
func TestRandomWalkWithBrokenFiles(t *testing.T) {
	for seed := range int64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newBrokenWalk(t, seed)
			for range 150 {
				w.step()
			}
		})
	}
}

type fault int

const (
	sound fault = iota
	atFault
	unreadable // a document that is no YAML, or no object
	faults
)

// testDocument is one document of a file, with what it was meant to be.
type testDocument struct {
	key     objectKey
	version int
	fault   fault
	// Of one that is unreadable: a text that no other has, and the object that it is
	// taken for.
	text, told string
}

func (d testDocument) String() string {
	if d.fault == unreadable {
		return d.text
	}
	port, ip := d.version, fmt.Sprintf("10.42.0.%d", d.version)
	if d.fault == atFault {
		port, ip = 0, "127.0.0.1"
	}
	app := d.key.name[1:]
	switch {
	case d.key.kind == "Pod":
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, labels: {app: '%s'}}\nstatus: {podIPs: [{ip: %s}], conditions: [{type: Ready, status: 'True'}]}\n", d.key.name, app, ip)
	case d.key.name[0] == 'h':
		return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {clusterIP: None, selector: {app: '%s'}, ports: [{port: %d}]}\n", d.key.name, app, port)
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {selector: {app: '%s'}, ports: [{port: %d}]}\n", d.key.name, app, port)
}

// testFile is a file as it stands in the folder.
type testFile struct {
	documents      []testDocument
	empty, tooLong bool
}

func (f *testFile) text() string {
	if f.empty {
		return ""
	}
	text := "# A file.\n"
	for _, d := range f.documents {
		text += "---\n" + d.String()
	}
	return text
}

// unread are the texts of a file that cannot be read.
func (f *testFile) unread() map[string]bool {
	texts := map[string]bool{}
	for _, d := range f.documents {
		if d.fault == unreadable {
			texts[d.text] = true
		}
	}
	return texts
}

func (f *testFile) document(key objectKey, fault fault) (testDocument, bool) {
	i := slices.IndexFunc(f.documents, func(d testDocument) bool { return d.key == key && d.fault == fault })
	if i < 0 {
		return testDocument{}, false
	}
	return f.documents[i], true
}

// mayHold reports whether an object that is not in force may be there.
func (f *testFile) mayHold(key objectKey) bool {
	_, isFaulty := f.document(key, atFault)
	return isFaulty || f.empty || f.tooLong || len(f.unread()) > 0
}

// twin knows what is in force of each file, slowly and plainly.
type twin struct {
	files      map[string]map[objectKey]lastGood
	remembered map[string]string // names of Services, with their files
	held       map[string][]netip.Addr
}

type lastGood struct {
	document testDocument
	beside   map[string]bool // the unreadable texts when it was last found
	kept     bool
}

func newTwin() *twin { return &twin{files: map[string]map[objectKey]lastGood{}} }

// look brings the twin up to date with all files.
func (w *twin) look(files map[string]*testFile) {
	maps.DeleteFunc(w.files, func(path string, _ map[objectKey]lastGood) bool { return files[path] == nil })
	for path, file := range files {
		if !file.tooLong {
			w.files[path] = next(w.files[path], file)
		}
	}
	for path, objects := range w.files {
		for key, o := range objects {
			if _, isFaulty := files[path].document(key, atFault); o.kept && !isFaulty && w.elsewhere(path, key, files) {
				delete(objects, key)
			}
		}
	}
	for name, path := range w.remembered {
		key := objectKey{"Service", "default", name}
		if file := files[path]; file == nil || !file.mayHold(key) || w.inForce(key) {
			delete(w.remembered, name)
		}
	}
}

// next is what is in force of a file that was read.
func next(before map[objectKey]lastGood, file *testFile) map[objectKey]lastGood {
	now := map[objectKey]lastGood{}
	for key, o := range before {
		if _, isFaulty := file.document(key, atFault); isFaulty && !file.empty {
			now[key] = lastGood{o.document, file.unread(), true}
			continue
		}
		for text := range file.unread() {
			if !o.beside[text] && !file.empty {
				now[key] = lastGood{o.document, o.beside, true}
			}
		}
		if file.empty {
			now[key] = lastGood{o.document, o.beside, true}
		}
	}
	for _, d := range file.documents {
		if d.fault == sound && !file.empty {
			now[d.key] = lastGood{d, file.unread(), false}
		}
	}
	return now
}

// elsewhere reports whether an object is found in another file than that.
func (w *twin) elsewhere(path string, key objectKey, files map[string]*testFile) bool {
	for other, objects := range w.files {
		if o, is := objects[key]; is && other != path && !files[other].tooLong {
			if _, isFaulty := files[other].document(key, atFault); !o.kept || isFaulty {
				return true
			}
		}
	}
	return false
}

func (w *twin) inForce(key objectKey) bool {
	for _, objects := range w.files {
		if _, is := objects[key]; is {
			return true
		}
	}
	return false
}

// restart returns the twin of a program that starts now, with the state file that this
// one has written.
func (w *twin) restart(held allocator.Allocations) *twin {
	after := newTwin()
	after.remembered, after.held = maps.Clone(w.remembered), map[string][]netip.Addr{}
	if after.remembered == nil {
		after.remembered = map[string]string{}
	}
	for path, objects := range w.files {
		for key := range objects {
			if held[cluster.ServiceName{Namespace: "default", Name: key.name}] != nil && key.kind == "Service" {
				after.remembered[key.name] = path
			}
		}
	}
	for name, addrs := range held {
		after.held[name.Name] = addrs
	}
	return after
}

// published is what Services and Pods there are: those that a folder without any fault
// would have, and those that are remembered.
func (w *twin) published(t *testing.T, state string) string {
	t.Helper()
	folder := Options{Dir: t.TempDir(), State: state}
	for path, objects := range w.files {
		var text strings.Builder
		for _, o := range objects {
			text.WriteString("---\n" + o.document.String())
		}
		write(t, filepath.Join(folder.Dir, path), text.String()+"# Not empty.\n")
	}
	u, problems, err := Load(folder)
	must(t, err)
	for _, p := range problems {
		if p.Severity == Error && !strings.Contains(p.Error(), "only its addresses are known") {
			t.Fatalf("the twin's folder is at fault: %v", p)
		}
	}
	u.Services = slices.DeleteFunc(u.Services, func(s cluster.ServiceUpdate) bool { return s.Service.Remembered })
	for name := range w.remembered {
		service := cluster.ServiceName{Namespace: "default", Name: name}
		u.Services = append(u.Services, cluster.ServiceUpdate{Name: service, Service: cluster.New(cluster.Service{Name: service, Kind: cluster.KindClusterIP, ClusterIPs: w.held[name]})})
	}
	return servicesAndPods(u)
}

func servicesAndPods(u cluster.Update) string {
	slices.SortFunc(u.Services, func(a, b cluster.ServiceUpdate) int { return a.Name.Compare(b.Name) })
	return format(cluster.Update{Services: u.Services, Pods: u.Pods})
}
