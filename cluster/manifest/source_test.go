package manifest

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/test/clustertest"
)

// live is a Source that runs, with what it has published and reported.
type live struct {
	t       *testing.T
	options Options
	store   *cluster.Store

	mu       sync.Mutex
	updates  []cluster.Update
	problems string
	stop     func()
}

func start(t *testing.T, options Options) *live {
	t.Helper()
	l := &live{t: t, options: options, store: cluster.NewStore()}
	l.store.Subscribe(func(u cluster.Update) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.updates = append(l.updates, u)
	})
	source, err := New(options, func(problems []Problem) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.problems = formatProblems(problems, options.Dir)
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- source.Run(ctx, l.store, func(publish func()) { publish() }) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v", err)
		}
	})
	t.Cleanup(l.stop)
	select {
	case <-l.store.Synced():
	case <-time.After(10 * time.Second):
		t.Fatal("the Store is not synced after 10 s")
	}
	return l
}

// await polls until the published state has (or with "!" lacks) each text.
func (l *live) await(texts ...string) {
	l.t.Helper()
	l.poll(func() string { return format(l.store.Snapshot()) }, texts)
}

// awaitProblem does the same with the reported problems.
func (l *live) awaitProblem(texts ...string) {
	l.t.Helper()
	l.poll(func() string {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.problems
	}, texts)
}

func (l *live) poll(get func() string, texts []string) {
	l.t.Helper()
	clustertest.Eventually(l.t, 15*time.Second, "what is published", func() error {
		now := get()
		for _, text := range texts {
			part, absent := strings.CutPrefix(text, "!")
			if strings.Contains(now, part) == absent {
				return fmt.Errorf("this does not have (!: or still has) %q:\n%s", text, now)
			}
		}
		return nil
	})
}

func (l *live) path(name string) string { return filepath.Join(l.options.Dir, name) }

// serviceText is a manifest with a Service of that name on that port.
func serviceText(name string, port int) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {ports: [{port: %d}]}\n", name, port)
}

func folderWith(t *testing.T, files map[string]string) Options {
	t.Helper()
	options := Options{Dir: filepath.Join(t.TempDir(), "manifests"), State: filepath.Join(t.TempDir(), "state.json")}
	if err := os.Mkdir(options.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		write(t, filepath.Join(options.Dir, name), text)
	}
	return options
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestNewFails(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "")
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{Dir: filepath.Join(dir, "missing")}, "missing: no such file or directory: create it"},
		{Options{Dir: filepath.Join(dir, "file")}, "not a directory"},
		{Options{Dir: dir, ServiceCIDRs: []netip.Prefix{netip.MustParsePrefix("fd00::/32")}}, "shortest IPv6 prefix is /64"},
	} {
		t.Run(test.want, func(t *testing.T) {
			if _, err := New(test.options, nil); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New: %v, want %q", err, test.want)
			}
			if _, _, err := Load(test.options); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Load: %v, want %q", err, test.want)
			}
		})
	}
}

func TestRunFollowsEdits(t *testing.T) {
	l := start(t, folderWith(t, map[string]string{"a.yaml": serviceText("a", 1), "z.yaml": serviceText("z", 1)}))
	l.await("service default/a ClusterIP", ":tcp/1", "!default/b")

	write(t, l.path("a.yaml"), serviceText("a", 2))
	l.await("default/a ClusterIP", ":tcp/2")
	write(t, l.path("sub/deeper/b.yaml"), serviceText("b", 3))
	l.await("default/b ClusterIP")
	must(t, os.Rename(l.path("sub/deeper/b.yaml"), l.path("sub/deeper/b.txt")))
	l.await("!default/b")
	must(t, os.Rename(l.path("sub"), l.path("other")))
	write(t, l.path("other/deeper/c.yaml"), serviceText("c", 3))
	l.await("default/c ClusterIP")
	must(t, os.RemoveAll(l.path("other")))
	l.await("!default/c", "default/a")
	must(t, os.Remove(l.path("a.yaml")))
	must(t, os.Remove(l.path("z.yaml")))
	l.await("!service", "!namespace")
	l.awaitProblem("has no manifests")
}

// A copy whose file comes first in the order does not take over what is in force.
func TestCopyTakesNobodysPlace(t *testing.T) {
	l := start(t, folderWith(t, map[string]string{"b.yaml": serviceText("echo", 1)}))
	write(t, l.path("a.yaml"), serviceText("echo", 2))
	l.awaitProblem("error: DIR/a.yaml:1: Service default/echo: this object is also in DIR/b.yaml:1, which counts")
	write(t, l.path("b.yaml"), serviceText("echo", 3))
	l.await("default/echo", "tcp/3", "!tcp/2")
	l.awaitProblem("DIR/a.yaml:1: Service default/echo: this object is also in DIR/b.yaml:1")
	must(t, os.Remove(l.path("b.yaml")))
	l.await("default/echo", "tcp/2")
	l.awaitProblem("!error")
}

// Only what differs is published, and an edit without consequence is not.
func TestRunPublishesDifferences(t *testing.T) {
	l := start(t, folderWith(t, map[string]string{"a.yaml": serviceText("a", 1), "b.yaml": serviceText("b", 1)}))
	write(t, l.path("a.yaml"), "# A comment.\n"+serviceText("a", 1))
	write(t, l.path("b.yaml"), "# A comment.\n"+serviceText("b", 1))
	write(t, l.path("c.yaml"), serviceText("c", 1))
	l.await("default/c")
	write(t, l.path("a.yaml"), serviceText("a", 2))
	l.await("tcp/2")

	l.mu.Lock()
	defer l.mu.Unlock()
	for i, u := range l.updates[2:] { // after Subscribe's and the first
		if len(u.Services) != 1 || u.Services[0].Name.Name == "b" || len(u.Namespaces) > 0 || u.Synced {
			t.Errorf("update %d is not one Service:\n%s", i, format(u))
		}
	}
	if first := l.updates[1]; !first.Synced || len(first.Services) != 2 {
		t.Errorf("the first update is synced=%t\n%s", first.Synced, format(first))
	}
}

// An invalid object keeps its own last good state; others of the file go on.
func TestInvalidObjectKeepsLastGood(t *testing.T) {
	l := start(t, folderWith(t, map[string]string{"a.yaml": serviceText("one", 1) + "---\n" + serviceText("two", 1)}))
	l.await("default/one", "default/two")
	addresses := map[string]netip.Addr{}
	for _, u := range l.store.Snapshot().Services {
		addresses[u.Name.Name] = u.Service.ClusterIPs[0]
	}
	write(t, l.path("a.yaml"), serviceText("one", 0)+"---\n"+serviceText("two", 2)+"---\n"+serviceText("three", 0))
	l.awaitProblem("a.yaml:4: Service default/one: spec.ports[0].port 0 is outside 1-65535; it stays in force as it was", "Service default/three")
	l.await("default/one ClusterIP ["+addresses["one"].String()+"] :tcp/1", "default/two ClusterIP ["+addresses["two"].String()+"] :tcp/2", "!three")
	write(t, l.path("a.yaml"), serviceText("two", 2))
	l.await("!default/one", "default/two")
	l.awaitProblem("!error")
}

// The kubelet mounts a ConfigMap as links to a folder behind a link, and swaps
// that link.
func TestConfigMapSwap(t *testing.T) {
	options := folderWith(t, map[string]string{
		"..2026_1/a.yaml": serviceText("a", 1), "..2026_1/sub/b.yaml": serviceText("b", 1),
		"..2026_2/a.yaml": serviceText("a", 2), "..2026_2/sub/b.yaml": serviceText("b", 2),
	})
	for link, target := range map[string]string{"..data": "..2026_1", "a.yaml": "..data/a.yaml", "sub": "..data/sub"} {
		must(t, os.Symlink(target, filepath.Join(options.Dir, link)))
	}
	l := start(t, options)
	l.await("default/a", "default/b", "!tcp/2")
	for i, target := range []string{"..2026_2", "..2026_1", "..2026_2"} {
		port := 2 - i%2
		must(t, os.Symlink(target, l.path("..data_tmp")))
		must(t, os.Rename(l.path("..data_tmp"), l.path("..data")))
		l.await("default/a", "default/b", fmt.Sprint("tcp/", port), fmt.Sprint("!tcp/", 3-port))
	}
	// The swapped-in sub-folder is watched, not the one that was there before.
	write(t, l.path("..2026_2/sub/b.yaml"), serviceText("b", 7))
	l.await("tcp/7")
	l.awaitProblem("!error")
}

func TestFolderGoesAndComesBack(t *testing.T) {
	t.Parallel()
	l := start(t, folderWith(t, map[string]string{"a.yaml": serviceText("a", 1), "sub/b.yaml": serviceText("b", 1)}))
	l.await("default/a", "default/b")
	must(t, os.RemoveAll(l.options.Dir))
	l.awaitProblem("error: DIR: the folder of manifests is gone: no such file or directory; what it held stays in force")
	l.await("default/a", "default/b")

	write(t, l.options.Dir, "now a file")
	l.awaitProblem("it is not a folder")
	l.await("default/a", "default/b")

	must(t, os.Remove(l.options.Dir))
	write(t, l.path("c.yaml"), serviceText("c", 1))
	l.await("default/a", "default/b", "default/c")
	l.awaitProblem("!error", "notice: DIR: what could not be read is back")
	l.await("!default/a", "!default/b", "default/c")
	write(t, l.path("d.yaml"), serviceText("d", 1))
	l.await("default/d")

	// Replaced by another folder in one go.
	write(t, l.options.Dir+".new/e.yaml", serviceText("e", 1))
	must(t, os.Rename(l.options.Dir, l.options.Dir+".old"))
	must(t, os.Rename(l.options.Dir+".new", l.options.Dir))
	l.await("default/e", "!default/c")
	write(t, l.path("f.yaml"), serviceText("f", 1))
	l.await("default/f")
}

// The tests may run as root, whom permissions do not stop; links in circles do.
func TestUnreadable(t *testing.T) {
	l := start(t, folderWith(t, map[string]string{"a.yaml": serviceText("a", 1), "sub/b.yaml": serviceText("b", 1), "c.yaml": serviceText("c", 1)}))
	l.await("default/a", "default/b", "default/c")
	for name, problem := range map[string]string{
		"a.yaml": "error: DIR/a.yaml: it cannot be read: too many levels of symbolic links; what it held stays in force",
		"sub":    "error: DIR/sub: it cannot be read: too many levels of symbolic links",
	} {
		must(t, os.Rename(l.path(name), l.path("."+name)))
		must(t, os.Symlink(name, l.path(name)))
		l.awaitProblem(problem)
	}
	write(t, l.path("c.yaml"), serviceText("c", 2))
	l.await("default/a", "default/b", "tcp/2")

	for _, name := range []string{"a.yaml", "sub"} {
		must(t, os.Remove(l.path(name)))
		must(t, os.Rename(l.path("."+name), l.path(name)))
	}
	l.awaitProblem("!error")
	must(t, os.RemoveAll(l.path("sub")))
	l.await("!default/b")
}

func TestStrangeFiles(t *testing.T) {
	options := folderWith(t, map[string]string{"a.yaml": serviceText("a", 1), "sub/b.yaml": serviceText("b", 1)})
	for link, target := range map[string]string{"sub/up": "..", "dangling.yaml": "nowhere", "dangling": "nowhere", "dir.yaml": "sub"} {
		must(t, os.Symlink(target, filepath.Join(options.Dir, link)))
	}
	must(t, syscall.Mkfifo(filepath.Join(options.Dir, "fifo.yaml"), 0o600))
	u, problems, err := Load(options)
	must(t, err)
	if got := format(u); !strings.Contains(got, "default/a") || !strings.Contains(got, "default/b") {
		t.Error(got)
	}
	got := formatProblems(problems, options.Dir)
	for _, want := range []string{
		"DIR/sub/up: this symbolic link leads back to a folder above it",
		"DIR/dangling.yaml: it cannot be read: no such file or directory",
		"DIR/fifo.yaml: the file cannot be read: it is not a regular file",
		"Service default/b: this object is also in DIR/dir.yaml/b.yaml:1, which counts",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no problem %q in\n%s", want, got)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Run("folder depth", func(t *testing.T) {
		options := folderWith(t, map[string]string{strings.Repeat("d/", maxDepth-1) + "in.yaml": serviceText("in", 1), strings.Repeat("d/", maxDepth) + "out.yaml": serviceText("out", 1)})
		u, problems, err := Load(options)
		must(t, err)
		problems = slices.DeleteFunc(problems, func(p Problem) bool { return p.Severity == Notice })
		if len(u.Services) != 1 || len(problems) != 1 || !strings.Contains(problems[0].Error(), "more than 16 folders deep") {
			t.Errorf("%s%s", format(u), formatProblems(problems, options.Dir))
		}
	})
	t.Run("problems of a file", func(t *testing.T) {
		options := folderWith(t, map[string]string{"a.yaml": strings.Repeat("---\nkind: Pod\n", 5000)})
		_, problems, err := Load(options)
		must(t, err)
		if len(problems) != maxProblems+1 || !strings.Contains(formatProblems(problems, options.Dir), "there are 4900 more problems here") {
			t.Errorf("%d problems", len(problems))
		}
	})
	// Neither finding the lines of items nor noting what is unread may look at all of
	// the file for each item: this would take hours.
	t.Run("items beside many keys", func(t *testing.T) {
		var text strings.Builder
		text.WriteString("apiVersion: v1\nkind: ServiceList\n")
		for i := range 150_000 {
			fmt.Fprintf(&text, "k%d: 1\n", i)
		}
		text.WriteString("items:\n")
		for i := range 150_000 {
			fmt.Fprintf(&text, "- metadata: {name: '{{%d}}'}\n", i)
		}
		c := (&parser{}).parse("a.yaml", []byte(text.String()))
		if len(c.unread) != 150_000 || len(c.problems) != 1 {
			t.Errorf("%d texts are unread, %d problems", len(c.unread), len(c.problems))
		}
	})
	t.Run("documents of a file", func(t *testing.T) {
		c := (&parser{}).parse("a.json", []byte(strings.Repeat("{}", maxDocuments+2)))
		if told := fmt.Sprint(c.problems); len(c.problems) != 2 || !strings.Contains(told, "there are more than 524288 documents in the file") {
			t.Error(told)
		}
	})
	t.Run("backends of a Service", func(t *testing.T) {
		var ports, endpoints strings.Builder
		for i := range 1000 {
			fmt.Fprintf(&ports, "- {name: p%d, port: %d}\n", i, i+1)
			fmt.Fprintf(&endpoints, "- {addresses: [10.42.%d.%d]}\n", i>>8, i&255)
		}
		options := folderWith(t, map[string]string{"a.yaml": serviceText("a", 1) + "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" +
			"metadata: {name: a, labels: {kubernetes.io/service-name: a}}\naddressType: IPv4\nports:\n" + ports.String() + "endpoints:\n" + endpoints.String()})
		u, problems, err := Load(options)
		must(t, err)
		const want = "error: DIR/a.yaml:1: Service default/a: its endpoints have more than 262144 ports together, so the last 738 endpoints, by address, are left out: give it fewer ports, or divide it into several Services\n"
		if got := formatProblems(problems, options.Dir); len(u.Services[0].Service.Endpoints) != 262 || !strings.HasPrefix(got, want) {
			t.Errorf("%d endpoints count: %s", len(u.Services[0].Service.Endpoints), got)
		}
	})
	t.Run("length of a problem", func(t *testing.T) {
		options := folderWith(t, map[string]string{"a.yaml": serviceText(strings.Repeat("a", 100_000), 1)})
		_, problems, err := Load(options)
		must(t, err)
		if got := formatProblems(problems, options.Dir); len(got) > 3*maxText || !strings.Contains(got, "bytes)") {
			t.Errorf("%d bytes: %.200s", len(got), got)
		}
	})
	t.Run("bytes of all files", func(t *testing.T) {
		options := folderWith(t, nil)
		write(t, filepath.Join(options.Dir, "large"), "# A long comment.")
		must(t, os.Truncate(filepath.Join(options.Dir, "large"), maxFileSize))
		for i := range maxTotalSize/maxFileSize + 1 {
			must(t, os.Symlink("large", filepath.Join(options.Dir, fmt.Sprintf("%03d.yaml", i))))
		}
		f := newFolder(options.Dir, options.State, &parser{families: []cluster.Family{cluster.IPv4}})
		f.scan(t.Context())
		if got := formatProblems(f.problems, options.Dir); !strings.Contains(got, "064.yaml: this file is not read: with it the files are larger than 512 MiB together") {
			t.Error(got)
		}
	})
}

// A notice about one namespace stays while another changes, and goes when its reason
// does.
func TestNoticeIsMended(t *testing.T) {
	l := start(t, folderWith(t, map[string]string{
		"web.yaml":   "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {selector: {app: web}, ports: [{port: 80}]}\n",
		"other.yaml": serviceText("other", 80),
	}))
	const notice = "web.yaml:1: Service shop/web: it has no endpoints"
	l.awaitProblem(notice, "Service default/other: it has no endpoints")
	must(t, os.Remove(l.path("other.yaml")))
	l.awaitProblem(notice, "!Service default/other")
	write(t, l.path("pod.yaml"), "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nstatus: {podIPs: [{ip: 10.42.0.1}], conditions: [{type: Ready, status: 'True'}]}\n")
	l.awaitProblem("!" + notice)
}
