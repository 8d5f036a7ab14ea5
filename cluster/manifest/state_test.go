package manifest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/clustertest"
)

func TestAddressesSurviveRestart(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": serviceText("a", 1), "b.yaml": serviceText("b", 1)})
	// Not the address that the hash says, so only the state file can tell it.
	write(t, options.State, `{"version": 1, "services": {"default/a": ["10.43.200.200"]}}`)
	l := start(t, options)
	l.await("default/a ClusterIP [10.43.200.200]", "default/b")
	first := format(l.store.Snapshot())
	l.stop()

	l = start(t, options)
	l.await(first)
	l.awaitProblem("!error", "!"+options.State)
	must(t, os.Remove(l.path("a.yaml")))
	l.await("!default/a")
	write(t, l.path("a.yaml"), serviceText("a", 1))
	l.await("default/a", "!10.43.200.200") // freed, so it has the hash's again
}

// A Service whose file is broken when the program starts has its address, and
// nothing else is known of it, until a file that can be read says more.
func TestAddressOfBrokenFileIsKept(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": "{", "b.yaml": serviceText("b", 1)})
	write(t, options.State, `{"version": 1, "services": {"default/a": ["10.43.200.200"]}}`)
	l := start(t, options)
	l.await("incomplete", "default/b", "default/a ClusterIP [10.43.200.200]", "!endpoint")
	write(t, l.path("a.yaml"), serviceText("a", 1))
	l.await("!incomplete", "default/a ClusterIP [10.43.200.200] :tcp/1")
	write(t, l.path("a.yaml"), "{")
	l.awaitProblem("error")
	l.await("!incomplete", "default/a ClusterIP [10.43.200.200] :tcp/1")
}

// A folder that is empty at the start may not be mounted yet.
func TestEmptyFolderAtStartRemovesNothing(t *testing.T) {
	options := folderWith(t, nil)
	write(t, options.State, `{"version": 1, "services": {"default/a": ["10.43.200.200"], "default/gone": ["10.43.200.201"]}}`)
	l := start(t, options)
	l.await("incomplete", "default/a ClusterIP [10.43.200.200]", "default/gone")
	l.awaitProblem("what an earlier run has left stays in force")
	write(t, l.path("a.yaml"), serviceText("a", 1))
	l.await("!incomplete", "default/a ClusterIP [10.43.200.200] :tcp/1", "!default/gone")
	must(t, os.Remove(l.path("a.yaml")))
	l.await("!incomplete", "!default/a")
}

func TestStateIsWrittenAgainWhenRemoved(t *testing.T) {
	l := start(t, folderWith(t, map[string]string{"a.yaml": serviceText("a", 1)}))
	l.await("default/a")
	must(t, os.Remove(l.options.State))
	write(t, l.path("b.txt"), "any event has it look again")
	clustertest.Eventually(t, 15*time.Second, "a new state file", func() error {
		_, err := os.Stat(l.options.State)
		return err
	})
}

// The state file is written only when something changed.
func TestStateIsNotRewritten(t *testing.T) {
	l := start(t, folderWith(t, map[string]string{"a.yaml": serviceText("a", 1)}))
	before, err := os.Stat(l.options.State)
	must(t, err)
	write(t, l.path("a.yaml"), serviceText("a", 2))
	l.await("tcp/2")
	after, err := os.Stat(l.options.State)
	must(t, err)
	if !os.SameFile(before, after) {
		t.Error("the state file was replaced though no address changed")
	}
	write(t, l.path("b.yaml"), serviceText("b", 2))
	l.await("default/b")
	if after, err = os.Stat(l.options.State); err != nil || os.SameFile(before, after) {
		t.Error("the state file was not replaced")
	}
}

func TestStateNotWritable(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": serviceText("a", 1)})
	options.State = filepath.Join(t.TempDir(), "missing", "state.json")
	l := start(t, options)
	l.await("default/a ClusterIP [10.43.")
	l.awaitProblem("error: "+options.State+": write state file: ", "Services go on, but after a restart they may get other addresses")
	must(t, os.Mkdir(filepath.Dir(options.State), 0o755))
	l.awaitProblem("!error") // it tries again by itself
	if _, err := os.Stat(options.State); err != nil {
		t.Error(err)
	}
}

func TestStateNotReadable(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": serviceText("a", 1)})
	must(t, os.Mkdir(options.State, 0o755))
	l := start(t, options)
	l.await("default/a ClusterIP [10.43.")
	l.awaitProblem("error: "+options.State+": read state file: ", "is not a regular file", "not remembered until")
}

func TestStateCorrupt(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": serviceText("a", 1)})
	options.State = "" // in the folder itself
	state := filepath.Join(options.Dir, ".clusterip-state.json")
	l := start(t, options)
	before := format(l.store.Snapshot())
	l.stop()
	write(t, state, `{"version": 1, "services": {"default/a": [`)

	_, problems, err := Load(options)
	must(t, err)
	if got := formatProblems(problems, options.Dir); !strings.Contains(got, "DIR/.clusterip-state.json: the state file is corrupt: ") {
		t.Errorf("Load says %q", got)
	}
	if aside, _ := filepath.Glob(state + ".corrupt-*"); len(aside) > 0 {
		t.Errorf("Load made %v", aside)
	}

	l = start(t, options)
	aside, _ := filepath.Glob(state + ".corrupt-*")
	if len(aside) != 1 {
		t.Fatalf("set aside: %v", aside)
	}
	l.awaitProblem("error: DIR/.clusterip-state.json: the state file is corrupt: ",
		"error: DIR/.clusterip-state.json: the corrupt state file was kept as "+strings.Replace(aside[0], options.Dir, "DIR", 1))
	l.await(before) // the hash gives the same address again
	l.stop()
	l = start(t, options)
	l.awaitProblem("!error")
}

// A state file that looks like a manifest is none.
func TestStateAmongManifests(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": serviceText("a", 1)})
	options.State = filepath.Join(options.Dir, "state.json")
	l := start(t, options)
	write(t, l.path("b.yaml"), serviceText("b", 1))
	l.await("default/b")
	l.awaitProblem("!state.json")
}

func TestStateDropsWhatDoesNotFit(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": serviceText("a", 1)})
	write(t, options.State, `{"version": 1, "services": {"default/a": ["10.99.0.1"]}}`)
	l := start(t, options)
	l.await("default/a ClusterIP [10.43.")
	l.awaitProblem("notice: " + options.State + ": the address remembered for Service default/a is dropped: 10.99.0.1 is outside the service CIDR 10.43.0.0/16")
}

// Where a range is given up, one notice says it of all Services, and once the state is written
// the next start says nothing.
func TestRangeGivenUp(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": serviceText("a", 1) + "---\n" + serviceText("b", 1)})
	write(t, options.State, `{"version": 1, "services": {"default/a": ["10.43.200.1", "fd43::1"], "default/b": ["10.43.200.2", "fd43::2"]}}`)
	loaded := func() string {
		_, problems, err := Load(options)
		must(t, err)
		return formatProblems(problems, options.Dir)
	}
	const notice = "2 addresses that are remembered are dropped, since no range has them any more: fd43::1 is outside the service CIDR 10.43.0.0/16, for one"
	if text := loaded(); !strings.Contains(text, notice) || strings.Count(text, "dropped") != 1 {
		t.Errorf("at first:\n%s", text)
	}
	l := start(t, options)
	l.await("default/a ClusterIP [10.43.200.1]", "default/b ClusterIP [10.43.200.2]")
	l.stop()
	if text := loaded(); strings.Contains(text, "dropped") {
		t.Errorf("after a start:\n%s", text)
	}
}
