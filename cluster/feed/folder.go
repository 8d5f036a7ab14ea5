package feed

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/kubernetes"
	"github.com/clusterip/clusterip/cluster/manifest"
)

// Folder is the Origin of objects that a folder of manifests has.
func Folder(o manifest.Options) Origin { return &folder{options: o} }

type folder struct {
	options  manifest.Options
	problems problems
}

// String implements Origin. The working directory has no name in a sentence.
func (f *folder) String() string {
	if dir := filepath.Clean(f.options.Dir); dir == "." {
		return "the folder " + absolute(dir)
	}
	return "the folder " + f.options.Dir
}

// Accept implements Origin. A folder is read whole in any case.
func (f *folder) Accept(Needs) (Needs, error) { return Needs{}, nil }

func (f *folder) hasNodes() bool              { return false }
func (f *folder) present() []manifest.Problem { return f.problems.list() }
func (f *folder) close()                      { f.problems.report(nil, nil) }

func (f *folder) key() any {
	return fmt.Sprintf("%q %q %v", absolute(f.options.Dir), absolute(f.options.StateFile()), f.options.ServiceCIDRs)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// beside implements Origin. With one state file each would overwrite what the other
// remembers.
func (f *folder) beside(other Origin, _ Logger) error {
	if o, ok := other.(*folder); ok && realPath(o.options.StateFile()) == realPath(f.options.StateFile()) {
		return fmt.Errorf("state file %s is kept by two clusterip directives, of manifests %s with service_cidr %v and of %s with %v: make them the same, or give each a state of its own",
			f.options.StateFile(), o.options.Dir, o.options.ServiceCIDRs, f.options.Dir, f.options.ServiceCIDRs)
	}
	return nil
}

// realPath is the same for all paths that lead to one file, which need not exist.
func realPath(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	} else if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	return absolute(path)
}

// check implements Origin.
func (f *folder) check() error {
	_, err := f.open(Needs{}, nil)
	return err
}

// open implements Origin.
func (f *folder) open(_ Needs, log Logger) (source, error) {
	s, err := manifest.New(f.options, func(all []manifest.Problem) { f.problems.report(log, all) })
	return fromFolder{s}, err
}

// fromFolder is a source that is at hand: nothing cuts it off, and nobody is there to
// be warned but by the log.
type fromFolder struct{ *manifest.Source }

func (fromFolder) BrokenFor(time.Duration) bool             { return false }
func (fromFolder) Warn(cluster.ServiceName, string, string) {}
func (fromFolder) WarnRange(netip.Prefix, string, string)   {}
func (fromFolder) Watches() []kubernetes.Watch              { return nil }

// problems logs what is wrong with the manifests, each problem once as long as
// it lasts and when it is mended, and counts it.
type problems struct {
	mu      sync.Mutex
	present map[string]manifest.Severity // by message
	all     []manifest.Problem
}

// list returns those that were reported last. The source makes a new slice for each report.
func (p *problems) list() []manifest.Problem {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all
}

// report takes all present problems; nil takes this folder's share out of the
// gauge.
func (p *problems) report(log Logger, all []manifest.Problem) {
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
			log.Infof("%s", message)
		} else {
			log.Errorf("%s", message)
		}
	}
	for _, message := range slices.Sorted(maps.Keys(p.present)) {
		manifestProblems.WithLabelValues(p.present[message].String()).Dec()
		if _, persists := present[message]; !persists && all != nil {
			log.Infof("no longer so: %s", message)
		}
	}
	p.present, p.all = present, all
}
