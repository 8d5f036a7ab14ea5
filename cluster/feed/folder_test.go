package feed

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster/manifest"
)

// Server blocks that read one folder share its source; one that reads another
// does not.
func TestServerBlocksShareASource(t *testing.T) {
	feeds, own := New(new(logged), ignore), new(Server)
	dir, other := t.TempDir(), t.TempDir()
	join := func(dir string) *feed {
		t.Helper()
		s, err := feeds.Join(own, Folder(manifest.Options{Dir: dir}), Needs{})
		if err != nil {
			t.Fatal(err)
		}
		return s.feed
	}
	first := join(dir)
	if again := join(dir + "/"); again != first {
		t.Error("one folder is read by two sources")
	}
	if join(other) == first {
		t.Error("two folders have one source")
	}
	feeds.Leave(func(s *Server) bool { return s == own })
	if len(feeds.byKey) != 0 {
		t.Errorf("left behind: %v", feeds.byKey)
	}
}

// Two sources of one server must not keep one state file: each would overwrite what
// the other remembers. The server of a reload may read the folder in another way.
func TestStateFileHasOneSource(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	link := filepath.Join(other, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, ".clusterip-state.json")
	first := manifest.Options{Dir: dir, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("10.43.0.0/16")}}
	changed := first
	changed.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.44.0.0/16")}
	feeds, old, own := New(new(logged), ignore), new(Server), new(Server)
	for _, step := range []struct {
		name  string
		who   *Server
		o     manifest.Options
		taken bool
	}{
		{"the first", old, first, true},
		{"the default written out", old, manifest.Options{Dir: dir, State: state, ServiceCIDRs: first.ServiceCIDRs}, true},
		{"other CIDRs", old, changed, false},
		{"another folder", old, manifest.Options{Dir: other, State: state}, false},
		{"through a link", old, manifest.Options{Dir: link, ServiceCIDRs: changed.ServiceCIDRs}, false},
		{"a state of its own", old, manifest.Options{Dir: dir, State: filepath.Join(other, "state.json"), ServiceCIDRs: changed.ServiceCIDRs}, true},
		{"other CIDRs after a reload", own, changed, true},
	} {
		_, err := feeds.Join(step.who, Folder(step.o), Needs{})
		if (err == nil) != step.taken {
			t.Errorf("%s: error %v", step.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "is kept by two clusterip directives") {
			t.Errorf("%s: the error is %v", step.name, err)
		}
	}
}

// Each problem is logged once as long as it lasts, and when it is mended, and
// counted while it does.
func TestProblems(t *testing.T) {
	var p problems
	log := new(logged)
	fault := manifest.Problem{File: "a.yaml", Line: 3, Object: "Service default/web", Err: os.ErrInvalid}
	notice := manifest.Problem{File: "b.yaml", Err: os.ErrInvalid, Severity: manifest.Notice}
	errors, notices := manifestProblems.WithLabelValues("error"), manifestProblems.WithLabelValues("notice")
	for _, step := range []struct {
		report          []manifest.Problem
		errors, notices float64
		logged          []string
	}{
		{[]manifest.Problem{fault, notice}, 1, 1, []string{fault.Error(), notice.Error()}},
		{[]manifest.Problem{fault, fault}, 1, 0, []string{"no longer so: " + notice.Error()}},
		{[]manifest.Problem{notice}, 0, 1, []string{notice.Error(), "no longer so: " + fault.Error()}},
		{nil, 0, 0, nil},
	} {
		log.lines = nil
		p.report(log, step.report)
		lines := log.lines
		for i, want := range step.logged {
			if len(lines) != len(step.logged) || !strings.HasSuffix(lines[i], " "+want) {
				t.Errorf("%v: logged is %q, want %q", step.report, lines, step.logged)
				break
			}
		}
		if e, n := value(t, errors), value(t, notices); e != step.errors || n != step.notices {
			t.Errorf("%v: %v errors and %v notices are counted", step.report, e, n)
		}
	}
}
