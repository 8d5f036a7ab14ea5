package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/allocator"
)

// Stdin is the path that stands for the standard input.
const Stdin = "-"

// maxGivenSize bounds a file that somebody names. It may be the export of a whole cluster,
// which is not to be split: 20,000 Services with their EndpointSlices are about 60 MiB.
const maxGivenSize = 256 << 20

// Given are manifests to be looked at once: files, whatever their names, and folders, of
// which what Run would read counts.
type Given struct {
	Paths []string // Stdin for one of them
	// ServiceCIDRs are as in Options.
	ServiceCIDRs []netip.Prefix
	// Fit takes other ServiceCIDRs where Services ask for addresses outside these.
	Fit bool
	// State is a state file, which says what ClusterIPs Services have; "" for none.
	State string
	// Held are ClusterIPs that Services have besides, and keep where they ask for no others.
	Held allocator.Allocations
}

// Reading is what there is in Given.
type Reading struct {
	Update   cluster.Update // what Run would publish first of such a folder
	Problems []Problem      // Errors first
	// Fitted says that the ServiceCIDRs of the Update are guessed from the addresses that
	// Services ask for, since those that were given did not fit.
	Fitted bool
}

// Read reads what is given. It writes nothing. It fails if a path is not there or cannot be
// read, or if the ServiceCIDRs cannot be used. What is wrong with the manifests is in the
// Problems, with the paths that were given or what is below them, and "stdin".
//
// What cannot be understood is left out, since there is no last good state to keep.
func (g Given) Read(stdin io.Reader) (Reading, error) {
	named, err := g.named(stdin)
	if err != nil {
		return Reading{}, err
	}
	saved, err := allocator.ReadState(g.State)
	if err != nil {
		return Reading{}, err
	}
	// Other ranges may have Services ask for what they could not ask for before, as for
	// addresses of another family. Each step finds at least one range.
	const steps = 4
	var out Reading
	for step := 1; ; step++ {
		s, err := newSource(Options{ServiceCIDRs: g.ServiceCIDRs}, nil)
		if err != nil {
			return Reading{}, err
		}
		lost := append(s.allocator.Restore(saved.Held), s.allocator.Restore(g.Held)...)
		g.fill(s.folder, named)
		s.leaveUndecided()
		if g.Fit && step <= steps {
			if ranges := s.fitting(lost); len(ranges) > 0 {
				g.ServiceCIDRs, out.Fitted = ranges, true
				continue
			}
		}
		out.Update = s.link()
		out.Update.Synced, out.Update.ServiceCIDRs = true, s.cidrs
		for _, err := range lost {
			s.problems = append(s.problems, Problem{File: g.State, Err: err, Severity: Notice})
		}
		out.Problems = s.allProblems()
		return out, nil
	}
}

// text is that of a named file.
type text struct {
	path string // as it is told
	data []byte
}

// named reads the files among the paths, and looks for the folders.
func (g Given) named(stdin io.Reader) (all []text, err error) {
	for _, path := range g.Paths {
		t := text{path: "stdin"}
		if path == Stdin {
			t.data, err = readGiven(stdin)
		} else if info, statErr := os.Stat(path); statErr != nil {
			err = statErr
		} else if info.IsDir() {
			continue
		} else {
			t.path = filepath.Clean(path)
			t.data, err = readNamed(path)
		}
		if err != nil {
			return nil, fmt.Errorf("read manifests %s: %w: give files and folders that exist", path, pathless(err))
		}
		all = append(all, t)
	}
	return all, nil
}

// readNamed reads a file that may be a pipe.
func readNamed(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readGiven(file)
}

func readGiven(from io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(from, maxGivenSize+1))
	if err == nil && len(data) > maxGivenSize {
		err = fmt.Errorf("it is larger than %d MiB: split it", maxGivenSize>>20)
	}
	return data, err
}

// fill puts what is given into an empty folder, as if it had all been there.
func (g Given) fill(f *folder, named []text) {
	f.root = ""
	if len(g.Paths) == 1 {
		f.root = filepath.Clean(g.Paths[0])
	}
	w := &walk{folder: f, ctx: context.Background(), found: map[string]bool{}, folders: map[string]fs.FileInfo{}, lost: lostPaths{}}
	for _, t := range named {
		if w.found[t.path] {
			continue // named twice
		}
		w.found[t.path], f.had = true, true
		content := f.parser.parse(t.path, t.data)
		content.problems = boundProblems(content.problems, t.path)
		f.files[t.path] = &file{path: t.path, content: content}
	}
	for _, path := range g.Paths {
		if info, err := os.Stat(path); path != Stdin && err == nil && info.IsDir() {
			w.dir(filepath.Clean(path), []fs.FileInfo{info})
		}
	}
	f.folders, f.lost, f.problems = w.folders, w.lost, boundProblems(w.problems, f.root)
}

// leaveUndecided has Services choose an address that demand the network address of a range.
// Nobody can have that one. It is what the API server puts where it would choose an address,
// if it is only asked what it would do (--dry-run=server).
func (s *Source) leaveUndecided() {
	for _, file := range s.folder.files {
		if file.content == nil {
			continue
		}
		for _, o := range file.content.objects {
			service, ok := o.value.(*service)
			if !ok {
				continue
			}
			demanded := service.model.ClusterIPs
			service.model.ClusterIPs = slices.DeleteFunc(slices.Clone(demanded), func(a netip.Addr) bool {
				return slices.ContainsFunc(s.cidrs, func(cidr netip.Prefix) bool { return cidr.Masked().Addr() == a })
			})
			if len(service.model.ClusterIPs) < len(demanded) {
				file.content.problems = append(file.content.problems, o.problem(Notice,
					fmt.Errorf("spec.clusterIP %s is what a dry run of the API server has in place of an address: it will be another", demanded[0])))
			}
		}
	}
}

// fitting returns other ServiceCIDRs that have what Services ask for and, as some errors
// say, have held so far; none if those that there are do.
func (s *Source) fitting(lost []error) []netip.Prefix {
	c := newCatalogue(s.folder, s.catalogue)
	var misfits []*allocator.Misfit
	note := func(err error) {
		if m := (*allocator.Misfit)(nil); errors.As(err, &m) {
			misfits = append(misfits, m)
		}
	}
	for _, p := range append(c.problems, s.allocate(c)...) {
		note(p.Err)
	}
	for _, err := range lost {
		note(err)
	}
	if len(misfits) == 0 {
		return nil
	}
	return s.allocator.Fitting(misfits)
}
