package manifest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleTime without a further change is awaited before the folder is read.
	settleTime = 100 * time.Millisecond
	// maxSettleTime ends the waiting where changes never pause.
	maxSettleTime = 2 * time.Second
	// pollInterval is how often the folder is looked at in any case: network
	// file systems do not tell what other machines change, and a folder that is
	// gone is not watched.
	pollInterval = 5 * time.Second
	// fastPollInterval is the same where watching does not work.
	fastPollInterval = time.Second
)

// watcher tells when to look at the folder again. It watches folders, not files:
// an editor replaces files, and a ConfigMap swaps its ..data link. The root may be
// such a link, or be replaced as a whole: the folder above it tells.
type watcher struct {
	root     string
	above    string // the folder that root is in; "" where the path does not say
	state    string
	notify   *fsnotify.Watcher // nil if the system has none
	events   <-chan fsnotify.Event
	errors   <-chan error
	watching map[string]fs.FileInfo // the folders, as they were when their watches began
	failure  error                  // why it polls
}

func newWatcher(root, state string) *watcher {
	w := &watcher{root: root, above: filepath.Dir(root), state: state}
	if w.above == root {
		w.above = ""
	}
	if w.notify, w.failure = fsnotify.NewWatcher(); w.failure == nil {
		w.events, w.errors = w.notify.Events, taken(w.notify.Errors)
	}
	return w
}

// taken takes errors at once, and keeps the last one for whoever looks. fsnotify
// may hold its lock while it has an error to give, and the lock is needed to ask it
// anything.
func taken(errors <-chan error) <-chan error {
	last := make(chan error, 1)
	go func() {
		for err := range errors {
			select {
			case last <- err:
			default: // one says as much as two
			}
		}
	}()
	return last
}

func (w *watcher) close() {
	if w.notify != nil {
		// There is nothing to do about an error: the process lets go of it.
		_ = w.notify.Close()
	}
}

// watch makes the given folders those that are watched, and reports whether it
// watches one that it did not before.
func (w *watcher) watch(folders map[string]fs.FileInfo) (added bool) {
	if w.notify == nil {
		return false
	}
	if info, err := os.Stat(w.above); err == nil {
		folders = maps.Clone(folders)
		folders[w.above] = info
	}
	// What is watched, fsnotify knows: the kernel drops the watch of a folder that
	// is deleted or moved away, and another at its path may have the same inode.
	watched := map[string]bool{}
	for _, path := range w.notify.WatchList() {
		if info, wanted := folders[path]; wanted && os.SameFile(w.watching[path], info) {
			watched[path] = true
			continue
		}
		// Fails if the folder is gone, and its watch with it.
		_ = w.notify.Remove(path)
	}
	w.failure = nil
	w.watching = folders
	for path := range folders {
		if watched[path] {
			continue
		}
		// A folder that is gone since it was found is told of by its parent. The
		// folder above the root need not be ours to read: it only saves time.
		if err := w.notify.Add(path); err != nil && !errors.Is(err, fs.ErrNotExist) && path != w.above {
			w.failure = err
		}
	}
	// A folder that is found at two paths is listed under one of them.
	return slices.ContainsFunc(w.notify.WatchList(), func(path string) bool { return !watched[path] })
}

func (w *watcher) problems() []Problem {
	if w.failure == nil {
		return nil
	}
	return []Problem{{Severity: Notice,
		Err: fmt.Errorf("changes cannot be watched, so the folder is read every %v: %w (see fs.inotify.max_user_watches and max_user_instances)", fastPollInterval, w.failure)}}
}

// wait returns true when it is time to look at the folder, and false when the
// context is done.
func (w *watcher) wait(ctx context.Context) bool {
	interval := pollInterval
	if w.failure != nil || w.lacksRoot() {
		interval = fastPollInterval
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return !w.lacksRoot() || w.settle(ctx)
		case <-w.errors:
			// The queue ran over. Of the events that were lost, one may have been
			// the end of a watch: all begin anew.
			w.watching = nil
			return w.settle(ctx)
		case event := <-w.events:
			if w.matters(event) {
				return w.settle(ctx)
			}
		}
	}
}

// lacksRoot reports whether the root could be watched and is not, since it was
// gone when last seen.
func (w *watcher) lacksRoot() bool {
	return w.notify != nil && !slices.Contains(w.notify.WatchList(), w.root)
}

// settle waits until changes pause. A root that has come back is watched from here
// on, to see whether it is still filling.
func (w *watcher) settle(ctx context.Context) bool {
	if w.lacksRoot() {
		// Fails as long as it is gone.
		_ = w.notify.Add(w.root)
	}
	limit := time.NewTimer(maxSettleTime)
	defer limit.Stop()
	quiet := time.NewTimer(settleTime)
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-quiet.C:
			return true
		case <-limit.C:
			return true
		case <-w.errors:
			w.watching = nil
		case event := <-w.events:
			if w.matters(event) {
				quiet.Reset(settleTime)
			}
		}
	}
}

// matters leaves out hidden files, among them the state file as it is replaced,
// and what is beside the root.
func (w *watcher) matters(event fsnotify.Event) bool {
	path := filepath.Clean(event.Name)
	if filepath.Dir(path) == w.above {
		return path == w.root
	}
	name := filepath.Base(path)
	return name == "..data" || !strings.HasPrefix(name, ".") && !samePath(event.Name, w.state)
}
