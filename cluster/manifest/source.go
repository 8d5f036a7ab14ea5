// Package manifest reads Services from a folder of Kubernetes manifests, for
// machines without an API server.
//
// It takes Namespace, Service, EndpointSlice, Endpoints, Pod and Node from YAML
// and JSON files in the folder and its sub-folders. In place of the controllers
// of Kubernetes it allocates ClusterIPs (package allocator), finds the endpoints
// of a Service among the Pods that its selector matches, and gives them hints.
// What controllers of a cluster made counts where that is missing. What cannot
// be read or understood keeps its last good state and is reported as a Problem
// with file and line; everything else goes on (docs/operations.md says what counts).
//
// The way of a change: watcher (something moved), folder (which files are
// different), parser (their objects), catalogue (all objects), allocator and
// linker (Services with addresses and endpoints), publisher (what differs from
// before). Start with Source.Run.
package manifest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/allocator"
)

// Options say where manifests are and how ClusterIPs are allocated.
type Options struct {
	Dir          string
	ServiceCIDRs []netip.Prefix // as allocator.New takes them; none means 10.43.0.0/16
	State        string         // where allocations are remembered; "" means Dir/.clusterip-state.json
}

// StateFile returns the file in which allocations are remembered.
func (o Options) StateFile() string {
	if o.State == "" {
		return filepath.Join(o.Dir, ".clusterip-state.json")
	}
	return o.State
}

// Source publishes the Services of a folder. Make one with New.
type Source struct {
	folder    *folder
	allocator *allocator.Allocator
	state     *stateFile
	report    func([]Problem)

	catalogue  *catalogue // as last linked
	nodes      nodes      // likewise
	remembered remembered
	cidrs      []netip.Prefix
	complete   bool // everything could be read, at least once
	published  publisher
	problems   []Problem // of the catalogue and its claims
	reported   []Problem
}

// New prepares a Source. It starts nothing and writes nothing; it fails if the
// folder does not exist or cannot be read, or if the CIDRs cannot be used.
//
// Run calls report, from its own goroutine, with all problems there are, whenever
// they are others than before; Errors come first.
func New(options Options, report func([]Problem)) (*Source, error) {
	if _, err := os.ReadDir(options.Dir); err != nil {
		return nil, fmt.Errorf("read the folder of manifests %s: %w: create it, or name another folder", absolute(options.Dir), pathless(err))
	}
	return newSource(options, report)
}

// newSource is New without a look at the folder.
func newSource(options Options, report func([]Problem)) (*Source, error) {
	cidrs := options.ServiceCIDRs
	if len(cidrs) == 0 {
		cidrs = []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}
	}
	alloc, err := allocator.New(cidrs)
	if err != nil {
		return nil, err
	}
	state := options.StateFile()
	return &Source{
		folder:    newFolder(options.Dir, state, &parser{families: alloc.Families()}),
		allocator: alloc,
		state:     &stateFile{path: state},
		report:    report,
		cidrs:     cidrs,
		catalogue: &catalogue{},
		nodes:     newNodes(nil),
		published: publisher{views: map[string]view{}},
	}, nil
}

// absolute says which folder a relative path means.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// Load makes a Source and has it Load.
func Load(options Options) (cluster.Update, []Problem, error) {
	s, err := New(options, nil)
	if err != nil {
		return cluster.Update{}, nil, err
	}
	update, problems := s.Load()
	return update, problems, nil
}

// Load returns what Run would publish first, and the problems, in place of Run. It writes
// nothing: a corrupt state file stays in place.
func (s *Source) Load() (cluster.Update, []Problem) {
	s.remembered = s.state.load(s.allocator)
	s.folder.scan(context.Background())
	update := s.link()
	update.Synced, update.ServiceCIDRs = true, s.cidrs
	return update, s.allProblems()
}

// Fault returns what somebody else finds wrong with a Service that was loaded, with its place
// in the folder.
func (s *Source) Fault(service cluster.ServiceName, err error) Problem {
	key := objectKey{"Service", service.Namespace, service.Name}
	if o := s.catalogue.objects[key]; o != nil {
		return o.problem(Error, err)
	}
	return Problem{Object: key.String(), Err: err} // it is remembered, and in no file
}

// Run publishes the folder to the Store and then every change, until the context
// is done. It calls takeOver once with a function that publishes the first Update,
// which has Synced set. ClusterIPs are written to the state
// file before they are published; if that fails it is a Problem, and Run goes on
// and tries again. Run must be called only once.
func (s *Source) Run(ctx context.Context, store *cluster.Store, takeOver func(publish func())) error {
	w := newWatcher(s.folder.root, s.folder.state)
	defer w.close()
	s.remembered = s.state.load(s.allocator)
	s.state.setAside()
	for first := true; ; first = false {
		var update cluster.Update
		wasComplete := s.complete
		changed := s.scan(ctx, w)
		if ctx.Err() != nil {
			return nil
		}
		if changed || first {
			update = s.link()
			if first {
				update.Synced, update.ServiceCIDRs = true, s.cidrs
			}
		}
		s.state.save(s.present())
		problems := s.allProblems(w.problems()...)
		if !slices.EqualFunc(problems, s.reported, sameProblem) {
			s.report(problems)
			s.reported = problems
		}
		switch publish := func() { store.Apply(update) }; {
		case first:
			takeOver(publish)
		case s.complete != wasComplete || !update.IsEmpty():
			publish()
		}
		if !w.wait(ctx) {
			return nil
		}
	}
}

// scan brings the folder up to date, and with it what is watched. A sub-folder
// may get files before it is watched, so after a new one it scans again.
func (s *Source) scan(ctx context.Context, w *watcher) (changed bool) {
	for range maxDepth {
		changed = s.folder.scan(ctx) || changed
		if !w.watch(s.folder.folders) {
			break
		}
	}
	return changed
}

// link brings the allocations up to date and returns what differs from what was
// published before. It works on the namespaces whose objects or addresses are
// different, and on the Services that different Nodes concern.
func (s *Source) link() cluster.Update {
	next := newCatalogue(s.folder, s.catalogue)
	may := s.remembered.recall(next, s.folder)
	s.complete = s.complete || s.folder.had && !s.folder.incomplete() && len(may) == 0
	before := s.allocator.Allocations()
	claimed := s.allocate(next)
	next.remember(s.remembered, may, s.allocator.Held, s.state.path)
	s.problems = joinMisfits(append(next.problems, claimed...), s.allocator, s.folder.root)
	changed := next.changedSince(s.catalogue)
	for _, service := range differing(before, s.allocator.Allocations(), slices.Equal) {
		changed[service.Namespace] = true
	}
	l := linker{nodes: s.nodes, held: s.allocator.Held}
	if changed[""] {
		l.nodes = newNodes(next.nodes())
	}
	views := map[string]view{}
	concerns := l.concern(s.nodes)
	for name, objects := range next.namespaces {
		switch {
		case name == "": // its Nodes have a say in the others
		case changed[name]:
			views[name] = l.view(newNamespace(objects))
		case concerns != nil:
			if v, any := l.relink(s.published.views[name], concerns); any {
				views[name] = v
			}
		}
	}
	for name := range s.catalogue.namespaces {
		if _, exists := next.namespaces[name]; !exists {
			views[name] = view{}
		}
	}
	s.catalogue, s.nodes = next, l.nodes
	update := s.published.update(views, next.namespaceNames(), l.nodes.models)
	s.problems = append(s.problems, boundProblems(s.published.problems(), s.folder.root)...)
	update.Incomplete = !s.complete
	return update
}

// allocate claims the ClusterIPs of all Services and returns what went wrong.
func (s *Source) allocate(c *catalogue) []Problem {
	var claims []allocator.Claim
	objects := map[cluster.ServiceName]*object{}
	for o, service := range c.services {
		if service.model.Kind != cluster.KindClusterIP {
			continue
		}
		objects[service.model.Name] = o
		claims = append(claims, allocator.Claim{
			Service:  service.model.Name,
			Families: service.families,
			Static:   service.model.ClusterIPs,
			Created:  service.created,
		})
	}
	var problems, misfits []Problem // which are joined in one
	kept := func(name cluster.ServiceName) bool { _, is := s.remembered[name]; return is }
	for name, err := range s.allocator.Sync(claims, kept) {
		o := objects[name]
		for _, err := range split(err) {
			if p := o.problem(Error, err); errors.As(err, new(*allocator.Misfit)) {
				misfits = append(misfits, p)
			} else {
				problems = append(problems, p)
			}
		}
	}
	return append(misfits, boundProblems(problems, s.folder.root)...)
}

// present is what the state file is to hold.
func (s *Source) present() allocator.State {
	held := s.allocator.Allocations()
	files := make(map[cluster.ServiceName]string, len(held))
	for name := range held {
		file := s.remembered[name]
		if o := s.catalogue.objects[objectKey{"Service", name.Namespace, name.Name}]; o != nil {
			file = s.folder.fileOf(o)
		}
		if file != "" {
			files[name] = file
		}
	}
	return allocator.State{Held: held, Files: files}
}

// allProblems returns what is known to be wrong, and more, in order.
func (s *Source) allProblems(more ...Problem) []Problem {
	all := append([]Problem{}, slices.Concat(s.problems, s.state.problems(), more)...) // nil would mean that nobody looks any more
	sortProblems(all)
	return all
}
