package allocator

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const stateText = `{
  "version": 1,
  "services": {
    "testing/a": [
      "10.0.0.5",
      "fd00::5"
    ],
    "testing/b": [
      "10.0.0.6"
    ],
    "testing/c": [
      "10.0.0.7"
    ]
  },
  "files": {
    "sub/web.yaml": [
      "testing/a",
      "testing/b"
    ]
  }
}
`

func TestState(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".state.json")
	if got, err := ReadState(path); got.Held != nil || err != nil {
		t.Errorf("without a file: %v, %v", got, err)
	}
	state := State{
		Held:  Allocations{service("b"): addrs("10.0.0.6"), service("a"): addrs("10.0.0.5", "fd00::5"), service("c"): addrs("10.0.0.7")},
		Files: map[cluster.ServiceName]string{service("a"): "sub/web.yaml", service("b"): "sub/web.yaml"},
	}
	for range 2 { // the second replaces the first
		if err := WriteState(path, state); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(stateText, string(text)); diff != "" {
		t.Error(diff)
	}
	got, err := ReadState(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(state, got, cmp.Comparer(sameAddr)); diff != "" {
		t.Error(diff)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

// Where the state file is a symbolic link, the file it leads to is written, and
// the link stays.
func TestStateBehindLinks(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"real/deep", "kept"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"folder": "real/deep", "real/deep/state.json": "../../second.json", "second.json": filepath.Join(dir, "kept/state.json")} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "folder/state.json")
	state := State{Held: Allocations{service("a"): addrs("10.0.0.5")}}
	for range 2 { // at first there is nothing behind the links
		if err := WriteState(path, state); err != nil {
			t.Fatal(err)
		}
	}
	for _, where := range []string{path, filepath.Join(dir, "kept/state.json")} {
		got, err := ReadState(where)
		if diff := cmp.Diff(state, got, cmp.Comparer(sameAddr), cmpopts.EquateEmpty()); err != nil || diff != "" {
			t.Errorf("%s: %v %s", where, err, diff)
		}
	}
	if aside, err := SetAside(path); err != nil || filepath.Dir(aside) != filepath.Join(dir, "kept") {
		t.Errorf("set aside as %s, %v", aside, err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode().Type() != os.ModeSymlink {
		t.Errorf("the link is no link any more: %v, %v", info, err)
	}
	if err := os.Symlink("circle.json", filepath.Join(dir, "circle.json")); err != nil {
		t.Fatal(err)
	}
	if err := WriteState(filepath.Join(dir, "circle.json"), state); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("links in a circle: %v", err)
	}
}

func TestStateFailures(t *testing.T) {
	dir := t.TempDir()
	if err := WriteState(filepath.Join(dir, "missing", "state.json"), State{}); err == nil {
		t.Error("no error in a folder that does not exist")
	}
	if _, err := ReadState(dir); err == nil || errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("reading a folder: %v", err)
	}
	if err := WriteState(dir, State{}); err == nil {
		t.Error("no error where a folder has the name")
	}
	if entries, _ := filepath.Glob(filepath.Join(filepath.Dir(dir), ".*.new-*")); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestStateCorrupt(t *testing.T) {
	for name, text := range map[string]string{
		"empty":           "",
		"cut off":         stateText[:len(stateText)/2],
		"no JSON":         "addresses: none\n",
		"no version":      `{"services": {}}`,
		"newer version":   `{"version": 2, "services": {}}`,
		"no namespace":    `{"version": 1, "services": {"a": ["10.0.0.1"]}}`,
		"slash too many":  `{"version": 1, "services": {"a/b/c": ["10.0.0.1"]}}`,
		"no address":      `{"version": 1, "services": {"a/b": ["ten"]}}`,
		"empty address":   `{"version": 1, "services": {"a/b": [""]}}`,
		"zoned address":   `{"version": 1, "services": {"a/b": ["fe80::1%eth0"]}}`,
		"mapped address":  `{"version": 1, "services": {"a/b": ["::ffff:10.0.0.1"]}}`,
		"file of no name": `{"version": 1, "services": {"a/b": ["10.0.0.1"]}, "files": {"a.yaml": ["a"]}}`,
		"something after": stateText + "}",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := decodeState([]byte(text)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("decodeState = %v, %v; want ErrCorrupt", got, err)
			}
		})
	}
}

func TestSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	seen := map[string]bool{}
	for range 3 {
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		aside, err := SetAside(path)
		if err != nil || seen[aside] || !strings.HasPrefix(aside, path+".corrupt-") {
			t.Fatalf("SetAside = %q, %v", aside, err)
		}
		seen[aside] = true
		if _, err := os.Stat(aside); err != nil {
			t.Error(err)
		}
	}
	if _, err := SetAside(path); err == nil {
		t.Error("no error for a file that does not exist")
	}
}

// Whatever the file holds, it is refused or it comes back the same when written,
// and an Allocator keeps its promises with it.
func FuzzState(f *testing.F) {
	f.Add([]byte(stateText))
	f.Add([]byte(`{"version": 1, "services": {"a/b": ["10.0.0.1", "10.0.0.1"], "a/c": ["10.0.0.1"]}}`))
	f.Add([]byte(`{"version": 1, "services": {"a/b": ["10.0.0.1"]}, "files": {"x.yaml": ["a/b", "a/c"], "y.yaml": ["a/b"]}}`))
	f.Add([]byte(`{"version": 1, "services": {"a/b": ["fd00::1", "10.0.0.0", "192.0.2.1"]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		state, err := decodeState(data)
		if err != nil {
			return
		}
		text, err := encodeState(state)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeState(text)
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, text)
		}
		if diff := cmp.Diff(state, again, cmp.Comparer(sameAddr), cmpopts.EquateEmpty()); diff != "" {
			t.Error(diff)
		}
		a, err := New([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/24"), netip.MustParsePrefix("fd00::/112")})
		if err != nil {
			t.Fatal(err)
		}
		a.Restore(state.Held)
		a.Sync([]Claim{claim("a"), claim("b", "10.0.0.1")}, func(cluster.ServiceName) bool { return len(data)%2 == 0 })
		checkInvariants(t, a)
	})
}
