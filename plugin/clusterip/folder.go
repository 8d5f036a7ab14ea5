package clusterip

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/clusterip/clusterip/cluster/manifest"
)

// folder is the origin of objects that a folder of manifests has.
type folder struct {
	options  manifest.Options
	problems problems
}

// newFolder refuses a second feed of one server with the state file of another:
// each would overwrite what the other remembers. During a reload the feeds of the
// old server are not meant.
func newFolder(own *server, o manifest.Options) (*folder, error) {
	for _, f := range feeds.byKey {
		other, ok := f.origin.(*folder)
		if ok && f.users[own] != nil && samePlace(other.options.StateFile(), o.StateFile()) {
			return nil, fmt.Errorf("state file %s is kept by two clusterip directives, of manifests %s with service_cidr %v and of %s with %v: make them the same, or give each a state of its own",
				o.StateFile(), other.options.Dir, other.options.ServiceCIDRs, o.Dir, o.ServiceCIDRs)
		}
	}
	f := &folder{options: o}
	// It is made again when it is to run. Here an error has its line in the
	// Corefile.
	_, err := f.open(needs{})
	return f, err
}

// folderKey is the same for options that read the same folder in the same way.
func folderKey(o manifest.Options) string {
	absolute := func(path string) string {
		if abs, err := filepath.Abs(path); err == nil {
			return abs
		}
		return path
	}
	return fmt.Sprintf("%q %q %v", absolute(o.Dir), absolute(o.StateFile()), o.ServiceCIDRs)
}

// samePlace reports whether two paths lead to one file, which need not exist.
func samePlace(a, b string) bool {
	place := func(path string) string {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			path = real
		} else if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
			path = filepath.Join(dir, filepath.Base(path))
		}
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		return path
	}
	return place(a) == place(b)
}

// String implements origin.
func (f *folder) String() string { return "the folder " + f.options.Dir }

// accept implements origin. A folder is read whole in any case.
func (f *folder) accept(needs) (needs, error) { return needs{}, nil }

// open implements origin.
func (f *folder) open(needs) (source, error) { return manifest.New(f.options, f.problems.report) }

// close implements origin.
func (f *folder) close() { f.problems.report(nil) }

// problems logs what is wrong with the manifests, each problem once as long as
// it lasts and when it is mended, and counts it.
type problems struct {
	mu      sync.Mutex
	present map[string]manifest.Severity // by message
}

// report takes all present problems; nil takes this folder's share out of the
// gauge.
func (p *problems) report(all []manifest.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	present := make(map[string]manifest.Severity, len(all))
	for _, problem := range all {
		message := problem.Error()
		if _, known := present[message]; known {
			continue
		}
		present[message] = problem.Severity
		manifestProblems.WithLabelValues(problem.Severity.String()).Inc()
		if _, logged := p.present[message]; logged {
			continue
		}
		if problem.Severity == manifest.Notice {
			log.Info(message)
		} else {
			log.Error(message)
		}
	}
	for _, message := range slices.Sorted(maps.Keys(p.present)) {
		manifestProblems.WithLabelValues(p.present[message].String()).Dec()
		if _, persists := present[message]; !persists && all != nil {
			log.Info("no longer so: " + message)
		}
	}
	p.present = present
}
