package allocator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
}

// ReadState reads the allocations of an earlier run. A file that does not exist
// holds none. What it holds may break the rules: see Allocator.Restore.
func ReadState(path string) (Allocations, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read state file: %s is not a regular file: move it away, or name another file with the state option", path)
	}
	if info.Size() > maxState {
		return nil, fmt.Errorf("%w: %s has %d bytes, more than %d", ErrCorrupt, path, info.Size(), maxState)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read state file: %w", err)
	}
	return decodeState(data)
}

func decodeState(data []byte) (Allocations, error) {
	var s state
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("%w: it has version %d, and this program reads version %d", ErrCorrupt, s.Version, stateVersion)
	}
	allocations := make(Allocations, len(s.Services))
	for key, addrs := range s.Services {
		namespace, name, ok := strings.Cut(key, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("%w: %q is not of the form namespace/name", ErrCorrupt, key)
		}
		for _, addr := range addrs {
			if !addr.IsValid() || addr.Zone() != "" || addr.Is4In6() {
				return nil, fmt.Errorf("%w: Service %s has the address %q", ErrCorrupt, key, addr)
			}
		}
		if len(addrs) > 0 {
			allocations[cluster.ServiceName{Namespace: namespace, Name: name}] = addrs
		}
	}
	return allocations, nil
}

func encodeState(allocations Allocations) ([]byte, error) {
	s := state{Version: stateVersion, Services: make(map[string][]netip.Addr, len(allocations))}
	for service, addrs := range allocations {
		s.Services[service.String()] = addrs
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetIndent("", "  ")
	err := enc.Encode(s)
	return out.Bytes(), err
}

// WriteState replaces the state file. After a crash at any moment the file is
// the old or the new one, whole; when WriteState has returned, it is the new one.
func WriteState(path string, allocations Allocations) error {
	data, err := encodeState(allocations)
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

func sortedNames(allocations Allocations) []cluster.ServiceName {
	names := make([]cluster.ServiceName, 0, len(allocations))
	for name := range allocations {
		names = append(names, name)
	}
	slices.SortFunc(names, cluster.ServiceName.Compare)
	return names
}
