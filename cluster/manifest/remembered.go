package manifest

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/allocator"
)

// remembered are the Services that an earlier run has left in the state file and
// that no manifest has shown yet, with the file each was in, "" if that is not known.
// Nothing but their addresses is known. One is gone for good when it cannot be in
// anything that could not be read.
type remembered map[cluster.ServiceName]string

// newRemembered takes over what the state file says. A file that is not below the
// folder is as good as none.
func newRemembered(held allocator.Allocations, files map[cluster.ServiceName]string) remembered {
	r := make(remembered, len(held))
	for name := range held {
		if r[name] = files[name]; !filepath.IsLocal(files[name]) {
			r[name] = ""
		}
	}
	return r
}

// recall forgets the Services that are in a manifest, or in none, and returns the
// files or folders that the others may be in.
func (r remembered) recall(c *catalogue, f *folder) map[cluster.ServiceName][]string {
	if len(r) == 0 {
		return nil
	}
	places := newHidingPlaces(f)
	may := make(map[cluster.ServiceName][]string, len(r))
	for name, file := range r {
		key := objectKey{"Service", name.Namespace, name.Name}
		paths := places.of(key, file)
		if _, found := c.objects[key]; found || len(paths) == 0 {
			delete(r, name)
			continue
		}
		may[name] = paths
	}
	return may
}

// hidingPlaces are where an object may be that was not found.
type hidingPlaces struct {
	folder *folder
	// any are the paths that may hold anything, faulty those that hold an object
	// which is at fault.
	any    []string
	faulty map[objectKey][]string
}

func newHidingPlaces(f *folder) *hidingPlaces {
	h := &hidingPlaces{folder: f, any: slices.Sorted(maps.Keys(f.lost)), faulty: map[objectKey][]string{}}
	for _, file := range f.inOrder() {
		if file.isUnread() || file.content.empty || file.content.mayHoldAny() {
			h.any = append(h.any, file.path)
		} else {
			for key := range file.content.invalid {
				h.faulty[key] = append(h.faulty[key], file.path)
			}
		}
	}
	if !f.had && len(h.any) == 0 {
		h.any = append(h.any, f.root) // which may not be mounted yet
	}
	return h
}

// of returns the paths that may hold an object: of its file alone, if that is known.
func (h *hidingPlaces) of(key objectKey, file string) []string {
	switch {
	case file != "" && h.folder.had:
		if path := filepath.Join(h.folder.root, file); h.folder.mayHold(path, key) {
			return []string{path}
		}
		return nil
	case len(h.faulty[key]) > 0:
		return h.faulty[key]
	}
	return h.any
}

// mayHold reports whether an object that was not found may be in a file.
func (f *folder) mayHold(path string, key objectKey) bool {
	file := f.files[path]
	return f.lost.have(path, f.root) || file != nil && (file.isUnread() || file.content.mayHold(key))
}

// fileOf is the path of an object's file below the folder, "" if the state file
// cannot hold it.
func (f *folder) fileOf(o *object) string {
	path, err := filepath.Rel(f.root, o.file)
	if err != nil || !utf8.ValidString(path) {
		return ""
	}
	return path
}

// remember adds the Services that an earlier run has left and that may be in one of
// the paths given: each with its addresses, of which nothing else is known. It tells
// them. One that has lost its addresses to another is forgotten.
func (c *catalogue) remember(r remembered, may map[cluster.ServiceName][]string, held func(cluster.ServiceName) []netip.Addr, state string) {
	var told []Problem
	for name, paths := range may {
		addrs := held(name)
		if len(addrs) == 0 {
			delete(r, name)
			continue
		}
		o := &object{objectKey: objectKey{"Service", name.Namespace, name.Name}, file: state, value: &service{
			model: cluster.Service{Name: name, Kind: cluster.KindClusterIP, ClusterIPs: addrs, Remembered: true}}}
		c.namespaces[name.Namespace] = append(c.namespaces[name.Namespace], o)
		told = append(told, Problem{File: state, Object: o.String(), Err: fmt.Errorf(
			"only its addresses are known, from an earlier run: it may be in %s; until that is mended or removed, the name has these addresses and the kernel the rules it had", placesText(paths))})
	}
	c.problems = append(c.problems, boundProblems(told, state)...)
}

// maxPlaces are named of those where a Service may be.
const maxPlaces = 3

func placesText(paths []string) string {
	text := strings.Join(paths[:min(len(paths), maxPlaces)], ", ")
	if more := len(paths) - maxPlaces; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
