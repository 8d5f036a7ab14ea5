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
)

// Bounds on a folder. What is beyond them is a Problem; the rest goes on.
const (
	maxFileSize  = 8 << 20
	maxTotalSize = 512 << 20
	maxFiles     = 100_000
	maxFolders   = 10_000
	maxDepth     = 16
	// maxWalks of one scan have to do where files are renamed without end.
	maxWalks = 4
)

// folder is a folder of manifests as it was when last scanned. Files that have
// not changed are not read again.
type folder struct {
	root   string
	state  string // the state file, which is no manifest whatever its name
	parser *parser
	files  map[string]*file
	had    bool // whether there ever was a file
	// folders are the root and the sub-folders that were found, for watching.
	folders  map[string]fs.FileInfo
	problems []Problem // with folders, and with finding files
	lost     lostPaths
	cameAt   time.Time // when a file last came, or changed, that was not there before
}

// fillingTime is how long nothing must come to a folder that was lost before it
// counts as whole: two looks by polling alone, which is how copying shows where
// nothing tells of changes.
const fillingTime = 2 * pollInterval

// filling reports whether a file that was lost may still be copied back.
func (f *folder) filling(lost *file) bool {
	return time.Since(lost.lostAt) < fillingTime || time.Since(f.cameAt) < fillingTime
}

func newFolder(root, state string, parser *parser) *folder {
	// What is watched goes by clean paths.
	return &folder{root: filepath.Clean(root), state: state, parser: parser, files: map[string]*file{}}
}

// scan looks at every file and reads those that changed. It reports whether
// anything is different from the last scan. When the context is done it stops
// early; what it has found is then of no use.
//
// Listing the files and looking at them are two steps, and one that is renamed in
// between shows under neither name. So a file counts as deleted only when two
// walks in a row have missed it and the second one was not disturbed.
func (f *folder) scan(ctx context.Context) (changed bool) {
	var missed map[string]bool
	for n := 1; ; n++ {
		w := &walk{folder: f, ctx: ctx, found: map[string]bool{}, folders: map[string]fs.FileInfo{}, lost: lostPaths{}}
		w.start()
		if ctx.Err() != nil {
			return changed
		}
		if w.came {
			f.cameAt = time.Now()
		}
		missed = w.miss(missed, !w.vanished || n == maxWalks)
		changed = changed || w.changed
		if n == maxWalks || !w.vanished && len(missed) == 0 {
			problems := boundProblems(w.problems, f.root)
			changed = changed || !slices.EqualFunc(f.problems, problems, sameProblem)
			f.folders, f.problems, f.lost = w.folders, problems, w.lost
			return changed
		}
	}
}

// incomplete reports whether there may be Services that are not known, because
// something could not be read or understood.
func (f *folder) incomplete() bool {
	if len(f.lost) > 0 {
		return true
	}
	for _, file := range f.files {
		if file.incomplete() {
			return true
		}
	}
	return false
}

// inOrder lists the files by path, which is the order in which the first of two
// duplicate objects counts.
func (f *folder) inOrder() []*file {
	var files []*file
	for _, path := range slices.Sorted(maps.Keys(f.files)) {
		files = append(files, f.files[path])
	}
	return files
}

// walk is one look at everything in the folder.
type walk struct {
	folder   *folder
	ctx      context.Context
	found    map[string]bool
	folders  map[string]fs.FileInfo
	lost     lostPaths // see lose
	vanished bool      // something was gone when it was looked at
	came     bool      // a file that was not known, or a lost one
	size     int64
	changed  bool
	problems []Problem
}

func (w *walk) fail(path string, err error) {
	w.problems = append(w.problems, Problem{File: path, Err: err})
}

// lose fails for something that known files may depend on: they are kept.
func (w *walk) lose(path string, err error) {
	w.lost[path] = true
	w.fail(path, err)
}

// lostPaths are the folders and files that could not be read.
type lostPaths map[string]bool

// have reports whether a path below root, or a folder that it is in, was lost.
func (l lostPaths) have(path, root string) bool {
	for !l[path] && path != root {
		path = filepath.Dir(path)
	}
	return l[path]
}

// miss decides about the known files that were not found: those that were missed
// before are deleted, if that is certain. It returns the others that may be.
func (w *walk) miss(before map[string]bool, certain bool) (missed map[string]bool) {
	missed = map[string]bool{}
	filling := false
	for path, known := range w.folder.files {
		switch {
		case w.found[path]:
			filling = filling || known.isLost()
		case w.lost.have(path, w.folder.root):
			w.changed = w.changed || !known.isLost()
			known.lostAt = time.Now()
		case known.isLost() && w.folder.filling(known):
			filling = true
		case before[path] && certain:
			delete(w.folder.files, path)
			w.changed = true
		default:
			missed[path] = true
		}
	}
	if filling {
		w.problems = append(w.problems, Problem{File: w.folder.root, Severity: Notice,
			Err: fmt.Errorf("what could not be read is back, but files are missing or different: they stay in force as they were until nothing more has come for %v", fillingTime)})
	}
	return missed
}

func (w *walk) start() {
	root := w.folder.root
	info, err := os.Stat(root)
	if err == nil && !info.IsDir() {
		err = errors.New("it is not a folder")
	}
	if err != nil {
		w.lose(root, fmt.Errorf("the folder of manifests is gone: %w; what it held stays in force until it is back", pathless(err)))
		return
	}
	w.dir(root, []fs.FileInfo{info})
}

// dir reads a folder. chain holds it and the folders above it, by which loops of
// symbolic links are noticed.
func (w *walk) dir(path string, chain []fs.FileInfo) {
	if len(w.folders) == maxFolders {
		w.lose(path, fmt.Errorf("this folder is not read: there are more than %d", maxFolders))
		return
	}
	if len(chain) > maxDepth {
		w.lose(path, fmt.Errorf("this folder is not read: it is more than %d folders deep", maxDepth))
		return
	}
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		w.vanished = true
		return
	}
	if err != nil {
		w.lose(path, fmt.Errorf("the folder cannot be read: %w; what it held stays in force", pathless(err)))
		return
	}
	w.folders[path] = chain[len(chain)-1]
	for _, entry := range entries {
		if w.ctx.Err() != nil {
			return
		}
		// Hidden files include ConfigMap's ..data, to which the regular names
		// are symbolic links, and the state file.
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		w.entry(filepath.Join(path, entry.Name()), chain)
	}
}

func (w *walk) entry(path string, chain []fs.FileInfo) {
	info, err := os.Stat(path)
	if err != nil {
		if _, linkErr := os.Lstat(path); errors.Is(linkErr, fs.ErrNotExist) {
			w.vanished = true
			return
		}
		if !isManifest(path) && errors.Is(err, fs.ErrNotExist) {
			return // a symbolic link to nothing
		}
		w.lose(path, fmt.Errorf("it cannot be read: %w; what it held stays in force", pathless(err)))
		return
	}
	if info.IsDir() {
		if slices.ContainsFunc(chain, func(above fs.FileInfo) bool { return os.SameFile(above, info) }) {
			w.fail(path, errors.New("this symbolic link leads back to a folder above it: remove it"))
			return
		}
		w.dir(path, append(slices.Clip(chain), info))
		return
	}
	if isManifest(path) && !samePath(path, w.folder.state) {
		w.file(path, info)
	}
}

func isManifest(path string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(path)))
}

func (w *walk) file(path string, info fs.FileInfo) {
	w.size += info.Size()
	switch {
	case len(w.found) >= maxFiles:
		w.lose(path, fmt.Errorf("this file is not read: there are more than %d files", maxFiles))
		return
	case w.size > maxTotalSize:
		w.size -= info.Size()
		w.lose(path, fmt.Errorf("this file is not read: with it the files are larger than %d MiB together", maxTotalSize>>20))
		return
	}
	known := w.folder.files[path]
	if known == nil {
		known = &file{path: path}
		w.folder.files[path] = known
		w.folder.had = true
		w.changed, w.came = true, true
	}
	wasLost := known.isLost()
	changed, gone := known.refresh(info, w.folder.parser, wasLost && w.folder.filling(known))
	w.changed = w.changed || changed
	w.came = w.came || changed && wasLost
	w.vanished = w.vanished || gone
	w.found[path] = !gone
}

// samePath compares paths of which one may be relative.
func samePath(a, b string) bool {
	if filepath.Base(a) != filepath.Base(b) {
		return false
	}
	absA, errA := filepath.Abs(a)
	absB, errB := filepath.Abs(b)
	return errA == nil && errB == nil && absA == absB
}

// pathless drops the path from an error, for a message that begins with it.
func pathless(err error) error {
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}
