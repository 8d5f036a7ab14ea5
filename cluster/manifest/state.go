package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/clusterip/clusterip/cluster/allocator"
)

// stateFile remembers allocations over a restart.
type stateFile struct {
	path    string
	saved   allocator.State // what the file holds
	loading []Problem       // from the start until the end of the process
	corrupt bool
	// keep means that the file must not be replaced, since what it holds is not
	// known.
	keep    bool
	failure error // of the last attempt to write
}

// load takes over what the file holds, and returns the Services that do. It only
// reads.
func (f *stateFile) load(a *allocator.Allocator) remembered {
	saved, err := allocator.ReadState(f.path)
	f.corrupt = errors.Is(err, allocator.ErrCorrupt)
	switch {
	case f.corrupt:
		f.fail(Error, fmt.Errorf("%w; addresses are allocated anew, mostly the same ones", err))
	case err != nil:
		f.keep = true
		f.fail(Error, fmt.Errorf("%w; addresses are allocated anew and not remembered until this is mended and the program restarted", err))
	}
	f.saved = saved
	for _, err := range joinDropped(a.Restore(saved.Held)) {
		f.fail(Notice, err)
	}
	f.loading = boundProblems(f.loading, f.path)
	return newRemembered(a.Allocations(), saved.Files)
}

// joinDropped makes one error of those about addresses outside the ranges, which come together
// where a range was taken away, as that of an IP family.
func joinDropped(errs []error) []error {
	var first *allocator.Misfit
	var rest []error
	dropped := 0
	for _, err := range errs {
		if m, ok := errors.AsType[*allocator.Misfit](err); !ok {
			rest = append(rest, err)
		} else if dropped++; first == nil {
			first = m
		}
	}
	if dropped < 2 {
		return errs
	}
	return append(rest, fmt.Errorf("%d addresses that are remembered are dropped, since no range has them any more: %w, for one", dropped, first))
}

func (f *stateFile) fail(severity Severity, err error) {
	f.loading = append(f.loading, Problem{File: f.path, Err: err, Severity: severity})
}

// setAside keeps a corrupt file under another name, for a person to look at.
func (f *stateFile) setAside() {
	if !f.corrupt {
		return
	}
	aside, err := allocator.SetAside(f.path)
	if err != nil {
		f.keep = true
		f.fail(Error, fmt.Errorf("%w; addresses are not remembered until this is mended and the program restarted", err))
		return
	}
	f.fail(Error, fmt.Errorf("the corrupt state file was kept as %s: look what was lost, then delete it", aside))
}

// save writes what is held if that is not what the file holds, or if somebody has
// removed the file, alone or with its folder.
func (f *stateFile) save(present allocator.State) {
	same := maps.Equal(present.Files, f.saved.Files) &&
		maps.EqualFunc(present.Held, f.saved.Held, slices.Equal)
	if _, err := os.Stat(f.path); errors.Is(err, fs.ErrNotExist) && len(present.Held) > 0 {
		same = false
	}
	if same || f.keep {
		f.failure = nil
		return
	}
	if f.failure = allocator.WriteState(f.path, present); f.failure == nil {
		f.saved = present
	}
}

func (f *stateFile) problems() []Problem {
	if f.failure == nil {
		return f.loading
	}
	return append(slices.Clip(f.loading), Problem{File: f.path,
		Err: fmt.Errorf("%w; Services go on, but after a restart they may get other addresses: make the folder writable, or name another file with the state option", f.failure)})
}
