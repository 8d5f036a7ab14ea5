package manifest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
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
	w := &walk{folder: f, lost: map[string]bool{}}
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
