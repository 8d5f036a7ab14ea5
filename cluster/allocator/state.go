package allocator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// stateVersion is the version of the format that is written. It must rise when a
// reader of the old format would misread the new one.
const stateVersion = 1

// maxState bounds the state file; a million Services need half of it.
const maxState = 128 << 20

// ErrCorrupt marks a state file that can be read but not understood.
var ErrCorrupt = errors.New("the state file is corrupt")

// state is the file: JSON that a person can read and mend.
type state struct {
	Version int `json:"version"`
	// Services maps "namespace/name" to ClusterIPs.
	Services map[string][]netip.Addr `json:"services"`
	// Files maps a file of the folder to the Services that are in it. It is a later
	// addition, which readers of version 1 skip.
	Files map[string][]string `json:"files,omitempty"`
}

// State is what is remembered over a restart.
type State struct {
	Held Allocations
	// Files says which file each Service was in, below the folder of manifests. A
	// Service whose file is not known is not there.
	Files map[cluster.ServiceName]string
}

// ReadState reads what an earlier run has left. A file that does not exist
// holds nothing. What it holds may break the rules: see Allocator.Restore.
func ReadState(path string) (State, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("read state file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return State{}, fmt.Errorf("read state file: %s is not a regular file: move it away, or name another file with the state option", path)
	}
	if info.Size() > maxState {
		return State{}, fmt.Errorf("%w: %s has %d bytes, more than %d", ErrCorrupt, path, info.Size(), maxState)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return State{}, fmt.Errorf("read state file: %w", err)
	}
	return decodeState(data)
}

func decodeState(data []byte) (State, error) {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return State{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if s.Version != stateVersion {
		return State{}, fmt.Errorf("%w: it has version %d, and this program reads version %d", ErrCorrupt, s.Version, stateVersion)
	}
	out := State{make(Allocations, len(s.Services)), make(map[cluster.ServiceName]string, len(s.Services))}
	for key, addrs := range s.Services {
		service, err := parseName(key)
		if err != nil {
			return State{}, err
		}
		for _, addr := range addrs {
			if !addr.IsValid() || addr.Zone() != "" || addr.Is4In6() {
				return State{}, fmt.Errorf("%w: Service %s has the address %q", ErrCorrupt, key, addr)
			}
		}
		if len(addrs) > 0 {
			out.Held[service] = addrs
		}
	}
	for _, file := range slices.Sorted(maps.Keys(s.Files)) {
		for _, key := range s.Files[file] {
			service, err := parseName(key)
			if err != nil {
				return State{}, err
			}
			if out.Held[service] != nil {
				out.Files[service] = file
			}
		}
	}
	return out, nil
}

func parseName(key string) (cluster.ServiceName, error) {
	namespace, name, ok := strings.Cut(key, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return cluster.ServiceName{}, fmt.Errorf("%w: %q is not of the form namespace/name", ErrCorrupt, key)
	}
	return cluster.ServiceName{Namespace: namespace, Name: name}, nil
}

func encodeState(given State) ([]byte, error) {
	s := state{stateVersion, make(map[string][]netip.Addr, len(given.Held)), map[string][]string{}}
	for service, addrs := range given.Held {
		s.Services[service.String()] = addrs
	}
	for _, service := range sortedNames(given.Files) {
		file := given.Files[service]
		s.Files[file] = append(s.Files[file], service.String())
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	err := enc.Encode(s)
	return out.Bytes(), err
}

// WriteState replaces the state file. After a crash at any moment the file is
// the old or the new one, whole; when WriteState has returned, it is the new one.
func WriteState(path string, s State) error {
	data, err := encodeState(s)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	if err := replaceFile(path, data); err != nil {
		return fmt.Errorf("write state file: %w", err)
	}
	return nil
}

func replaceFile(path string, data []byte) error {
	path, err := followLinks(path)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	// Hidden, so that a folder of manifests does not take it for one. The name
	// is unique because machines may share the folder.
	file, err := os.CreateTemp(dir, "."+strings.TrimPrefix(filepath.Base(path), ".")+".new-*")
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	err = errors.Join(err, file.Chmod(0o644), file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return syncDir(dir)
}

// maxLinks is how many symbolic links the kernel follows.
const maxLinks = 40

// followLinks returns the file that a path stands for, whether that exists or not:
// a rename would replace a symbolic link, and leave the file it leads to as it was.
func followLinks(path string) (string, error) {
	for range maxLinks {
		to, err := os.Readlink(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.EINVAL) {
			return path, nil // it is no link
		}
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(to) {
			// Its ".." leads up from where the folder really is.
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if err != nil {
				return "", err
			}
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return "", &fs.PathError{Op: "follow", Path: path, Err: syscall.ELOOP}
}

// syncDir makes a rename survive a power failure.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// SetAside renames a state file to <path>.corrupt-<time> for a person to look
// at, never over an earlier one, and returns the new name.
func SetAside(path string) (string, error) {
	path, err := followLinks(path)
	if err != nil {
		return "", fmt.Errorf("set the corrupt state file aside: %w", err)
	}
	base := path + ".corrupt-" + time.Now().UTC().Format("20060102T150405Z")
	aside := base
	for n := 2; ; n++ {
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s-%d", base, n)
	}
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("set the corrupt state file aside: %w", err)
	}
	return aside, nil
}

func sortedNames[V any](byName map[cluster.ServiceName]V) []cluster.ServiceName {
	return slices.SortedFunc(maps.Keys(byName), cluster.ServiceName.Compare)
}
