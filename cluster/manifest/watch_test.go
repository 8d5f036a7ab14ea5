package manifest

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

func TestSettle(t *testing.T) {
	for _, test := range []struct {
		name   string
		events int
		pause  time.Duration
		want   time.Duration
	}{
		{"one change", 1, 0, 100 * time.Millisecond},
		{"a few changes", 5, 50 * time.Millisecond, 4*50*time.Millisecond + 100*time.Millisecond},
		{"changes that never pause", 1000, 50 * time.Millisecond, 2 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				events := make(chan fsnotify.Event)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					for range test.events {
						select {
						case events <- fsnotify.Event{Name: "/manifests/a.yaml", Op: fsnotify.Write}:
						case <-ctx.Done():
							return
						}
						time.Sleep(test.pause)
					}
				}()
				w := &watcher{events: events}
				start := time.Now()
				if !w.wait(ctx) {
					t.Fatal("wait says that the context is done")
				}
				if took := time.Since(start); took != test.want {
					t.Errorf("took %v, want %v", took, test.want)
				}
			})
		})
	}
}

func TestWaitWithoutEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		start := time.Now()
		polling := &watcher{failure: context.Canceled}
		if !polling.wait(ctx) || time.Since(start) != fastPollInterval {
			t.Errorf("without watching it took %v, want %v", time.Since(start), fastPollInterval)
		}
		cancel()
		if polling.wait(ctx) {
			t.Error("wait goes on after the end of the context")
		}
	})
}

// The kernel drops the watch of a folder that is moved away. When it comes back it
// is the same folder, and has to be watched anew.
func TestWatchBeginsAnew(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "manifests")
	must(t, os.MkdirAll(filepath.Join(dir, "sub"), 0o755))
	must(t, os.Symlink("sub", filepath.Join(dir, "alias")))
	folders := map[string]fs.FileInfo{}
	for _, path := range []string{dir, filepath.Join(dir, "sub"), filepath.Join(dir, "alias")} {
		info, err := os.Stat(path)
		must(t, err)
		folders[path] = info
	}
	w := newWatcher(dir, "")
	defer w.close()
	if !w.watch(folders) || w.watch(folders) {
		t.Fatal("the first call adds watches, the second one none")
	}
	for _, path := range []string{filepath.Join(dir, "sub"), dir} {
		must(t, os.Rename(path, path+".away"))
		must(t, os.Rename(path+".away", path))
		if !w.wait(t.Context()) || !w.watch(folders) {
			t.Errorf("%s is not watched anew", path)
		}
		write(t, filepath.Join(path, "a.yaml"), "")
		select {
		case <-w.events:
		case <-time.After(10 * time.Second):
			t.Errorf("a change in %s does not show", path)
		}
	}
}

// A folder that is moved away and deleted makes fsnotify fail, with its lock held:
// that must not stop the one who asks it what is watched.
func TestWatchWhileErrorsCome(t *testing.T) {
	root, away := t.TempDir(), filepath.Join(t.TempDir(), "away")
	sub := filepath.Join(root, "sub")
	w := newWatcher(root, "")
	for range 20 {
		must(t, os.Mkdir(sub, 0o755))
		folders := map[string]fs.FileInfo{}
		for _, path := range []string{root, sub} {
			info, err := os.Stat(path)
			must(t, err)
			folders[path] = info
		}
		w.watch(folders)
		must(t, os.Rename(sub, away))
		must(t, os.Remove(away))
		for event := range w.events {
			if event.Name == sub && event.Has(fsnotify.Rename) {
				break
			}
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			delete(folders, sub)
			w.watch(folders)
		}()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("the watcher is stuck")
		}
	}
	w.close() // which would be stuck as well
}

// A root that is a link may be swapped, and one that is gone may come back: the
// folder above it tells.
func TestRootIsReplaced(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "manifests")
	for _, name := range []string{"1", "2"} {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	must(t, os.Symlink("1", root))
	w := newWatcher(root, "")
	defer w.close()
	watch := func() {
		info, err := os.Stat(root)
		must(t, err)
		w.watch(map[string]fs.FileInfo{root: info})
	}
	watch()
	// In less time than until the next poll.
	waits := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), pollInterval-time.Second)
		defer cancel()
		if !w.wait(ctx) {
			t.Errorf("%s does not show", what)
		}
	}
	must(t, os.Symlink("2", root+".new"))
	must(t, os.Rename(root+".new", root))
	waits("the swap")
	watch()
	write(t, filepath.Join(dir, "2", "a.yaml"), "")
	waits("a change in the folder that was swapped in")

	must(t, os.Remove(root))
	waits("the loss")
	if w.watch(map[string]fs.FileInfo{}); !w.lacksRoot() {
		t.Error("what the root led to is still watched")
	}
	must(t, os.Mkdir(root, 0o755))
	waits("the return")
	if w.lacksRoot() {
		t.Error("a root that came back is not watched while it fills")
	}
}

func TestMatters(t *testing.T) {
	w := &watcher{root: "/manifests", above: "/", state: "/manifests/state.json"}
	for name, want := range map[string]bool{
		"/manifests/a.yaml":                 true,
		"/manifests/sub":                    true,
		"/manifests":                        true,
		"/beside":                           false,
		"/manifests/..data":                 true,
		"/manifests/..data_tmp":             false,
		"/manifests/.a.yaml.swp":            false,
		"/manifests/state.json":             false,
		"/manifests/.state.json.new-1":      false,
		"/manifests/.clusterip-state.json":  false,
		"/manifests/sub/..2026_01_01_00_00": false,
	} {
		if got := w.matters(fsnotify.Event{Name: name}); got != want {
			t.Errorf("matters(%s) = %t", name, got)
		}
	}
}
