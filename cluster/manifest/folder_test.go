package manifest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"golang.org/x/sys/unix"
)

func newTestFolder(options Options) *folder {
	return newFolder(options.Dir, options.State, &parser{families: []cluster.Family{cluster.IPv4}})
}

func (f *folder) has(name string) bool {
	for _, file := range f.files {
		for _, o := range file.content.objects {
			if o.name == name {
				return true
			}
		}
	}
	return false
}

// onOpen does something as soon as a file is opened.
func onOpen(t *testing.T, path string, do func()) (done chan struct{}) {
	t.Helper()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	must(t, err)
	_, err = unix.InotifyAddWatch(fd, path, unix.IN_OPEN)
	must(t, err)
	done = make(chan struct{})
	go func() {
		defer close(done)
		defer unix.Close(fd)
		if _, err := unix.Read(fd, make([]byte, 4096)); err == nil {
			do()
		}
	}()
	return done
}

// A file that is renamed between the listing and the look at it keeps its objects,
// and one that is deleted then loses them.
func TestRenamedDuringScan(t *testing.T) {
	files := map[string]string{"s.yaml": serviceText("renamed", 1)}
	for i := range 1000 {
		files[fmt.Sprintf("%04d.yaml", i)] = "# Something to do between the listing and the look."
	}
	f := newTestFolder(folderWith(t, files))
	f.scan(t.Context())
	first := filepath.Join(f.root, "0000.yaml")
	from, to := filepath.Join(f.root, "s.yaml"), filepath.Join(f.root, "z.yaml")
	done := onOpen(t, first, func() { os.Rename(from, to) })
	f.scan(t.Context())
	<-done
	if !f.has("renamed") || len(f.files) != len(files) {
		t.Errorf("of %d files there are %d, and the objects of the one that was renamed are lost", len(files), len(f.files))
	}
	done = onOpen(t, first, func() { os.Remove(to) })
	f.scan(t.Context())
	<-done
	if f.has("renamed") {
		t.Error("the objects of the file that was deleted are still there")
	}
}

// Many files below many paths that cannot be read: the work is not their product.
func TestManyLost(t *testing.T) {
	const n = 20_000
	f := newTestFolder(folderWith(t, nil))
	w := &walk{folder: f, lost: lostPaths{}}
	for i := range n {
		w.lost[filepath.Join(f.root, fmt.Sprint("lost", i))] = true
		path := filepath.Join(f.root, fmt.Sprint("lost", i), "sub", "a.yaml")
		f.files[path] = &file{path: path}
	}
	start := time.Now()
	if missed := w.miss(nil, true); len(missed) > 0 || !w.changed {
		t.Errorf("%d files are not lost", len(missed))
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestScanEndsWithItsContext(t *testing.T) {
	f := newTestFolder(folderWith(t, map[string]string{"a.yaml": serviceText("a", 1), "b.yaml": serviceText("b", 1)}))
	f.scan(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	write(t, filepath.Join(f.root, "c.yaml"), serviceText("c", 1))
	if f.scan(ctx) || f.has("c") || !f.has("a") {
		t.Error("the scan goes on")
	}
}

// A folder that comes back may still be filling: what is missing from it, or only
// half there, is not taken for deleted until nothing has come for a while.
func TestFolderComesBackInParts(t *testing.T) {
	files := map[string]string{"one.yaml": serviceText("one", 1), "two.yaml": serviceText("two", 1) + "---\n" + serviceText("three", 1), "gone.yaml": serviceText("gone", 1)}
	options := folderWith(t, files)
	synctest.Test(t, func(t *testing.T) {
		f := newTestFolder(options)
		check := func(step string, want ...string) {
			t.Helper()
			f.scan(t.Context())
			for _, name := range []string{"one", "two", "three", "gone", "new"} {
				if f.has(name) != slices.Contains(want, name) {
					t.Errorf("%s: there is not exactly %q: %s is wrong", step, want, name)
				}
			}
		}
		check("at first", "one", "two", "three", "gone")
		must(t, os.RemoveAll(f.root))
		check("lost", "one", "two", "three", "gone")
		time.Sleep(time.Hour)
		check("still lost", "one", "two", "three", "gone")

		must(t, os.Mkdir(f.root, 0o755))
		check("empty", "one", "two", "three", "gone")
		time.Sleep(fillingTime / 2)
		write(t, filepath.Join(f.root, "two.yaml"), serviceText("two", 1))
		check("half a file", "one", "two", "three", "gone")
		time.Sleep(fillingTime / 2)
		write(t, filepath.Join(f.root, "one.yaml"), files["one.yaml"])
		write(t, filepath.Join(f.root, "new.yaml"), serviceText("new", 1))
		check("more files", "one", "two", "three", "gone", "new")
		if got := formatProblems(f.problems, f.root); !strings.Contains(got, "notice: DIR: what could not be read is back, but files are missing or different") || !f.incomplete() {
			t.Errorf("it counts as complete, or says nothing of files that are missing: %s", got)
		}
		time.Sleep(fillingTime / 2)
		write(t, filepath.Join(f.root, "two.yaml"), files["two.yaml"])
		check("the whole file", "one", "two", "three", "gone", "new")
		time.Sleep(fillingTime / 2)
		check("not yet quiet for long enough", "one", "two", "three", "gone", "new")
		time.Sleep(fillingTime / 2)
		check("quiet", "one", "two", "three", "new")
		if f.incomplete() || len(f.problems) > 0 {
			t.Errorf("it is incomplete, or has problems: %v", f.problems)
		}
		must(t, os.Remove(filepath.Join(f.root, "one.yaml")))
		check("deleted later", "two", "three", "new")
	})
}
