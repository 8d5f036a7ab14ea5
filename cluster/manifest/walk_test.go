package manifest

import (
	"errors"
	"fmt"
	"math/rand"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/google/go-cmp/cmp"
)

// Whatever is done to the folder while the Source runs, in the end it has
// published what a fresh start would, and reported the same problems.
func TestRandomWalkConverges(t *testing.T) {
	for seed := range int64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			options := folderWith(t, nil)
			options.ServiceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.43.0.0/24"), netip.MustParsePrefix("fd43::/120")}
			l := start(t, options)
			editor := &editor{t: t, rng: rand.New(rand.NewSource(seed)), dir: options.Dir, broken: map[string]bool{}}
			for range 6 {
				for range 30 {
					editor.edit()
					if editor.rng.Intn(6) == 0 {
						// Lets some edits fall into different settling times.
						time.Sleep(time.Duration(editor.rng.Intn(120)) * time.Millisecond)
					}
				}
				editor.mend()
				editor.removeCopies(options)
				l.awaitFreshStart()
			}
		})
	}
}

// awaitFreshStart polls until the Store holds what Load returns.
func (l *live) awaitFreshStart() {
	l.t.Helper()
	clustertest.Eventually(l.t, 15*time.Second, "the state of a fresh start (-), and not this of the running Source (+)", func() error {
		want, problems, err := Load(l.options)
		must(l.t, err)
		l.mu.Lock()
		reported := l.problems
		l.mu.Unlock()
		got := l.store.Snapshot()
		if diff := cmp.Diff(format(want)+formatProblems(problems, l.options.Dir), format(got)+reported); diff != "" {
			return errors.New(diff)
		}
		checkAddresses(l.t, got)
		return nil
	})
}

func checkAddresses(t *testing.T, u cluster.Update) {
	t.Helper()
	holders := map[netip.Addr]cluster.ServiceName{}
	for _, s := range u.Services {
		for _, ip := range s.Service.ClusterIPs {
			if other, twice := holders[ip]; twice {
				t.Fatalf("%s and %s both have %s", other, s.Name, ip)
			}
			holders[ip] = s.Name
		}
	}
}

// editor does to a folder what people and tools do.
type editor struct {
	t      *testing.T
	rng    *rand.Rand
	dir    string
	broken map[string]bool
}

func (e *editor) pick(choices ...string) string { return choices[e.rng.Intn(len(choices))] }

func (e *editor) path() string {
	return filepath.Join(e.dir, e.pick("", "", "sub", "sub/deep", "other"), fmt.Sprintf("%d.yaml", e.rng.Intn(5)))
}

func (e *editor) edit() {
	path := e.path()
	switch e.rng.Intn(10) {
	case 0:
		must(e.t, os.RemoveAll(path))
		delete(e.broken, path)
	case 1:
		must(e.t, os.RemoveAll(filepath.Join(e.dir, e.pick("sub", "sub/deep", "other"))))
	case 2:
		write(e.t, path, e.objects()+"---\n{broken")
		e.broken[path] = true
	case 3:
		// As editors save: a new file takes the place of the old one.
		write(e.t, path, "")
		write(e.t, path+".new", e.objects())
		must(e.t, os.Rename(path+".new", path))
		delete(e.broken, path)
	case 4:
		to := e.path()
		if os.Rename(path, to) == nil && e.broken[path] {
			e.broken[to] = true
		}
	default:
		write(e.t, path, e.objects())
		delete(e.broken, path)
	}
}

// mend leaves no file whose last good state would count.
func (e *editor) mend() {
	for path := range e.broken {
		if _, err := os.Stat(path); err == nil {
			write(e.t, path, e.objects())
		}
		delete(e.broken, path)
	}
}

// removeCopies removes files whose objects are in other files too: which of them
// counts depends on which was in force.
func (e *editor) removeCopies(options Options) {
	_, problems, err := Load(options)
	must(e.t, err)
	for _, p := range problems {
		text := p.Error()
		_, where, twice := strings.Cut(text, "this object is also in ")
		if first, _, _ := strings.Cut(where, ":"); twice && first != p.File {
			must(e.t, os.RemoveAll(p.File))
		}
	}
}

// objects returns a few objects, or none, which may be in other files too.
func (e *editor) objects() string {
	var b strings.Builder
	b.WriteString("# An empty file would keep its last good state.\n")
	for range e.rng.Intn(5) {
		name := fmt.Sprint("o", e.rng.Intn(8))
		namespace := e.pick("one", "two")
		b.WriteString("---\napiVersion: v1\n")
		switch e.rng.Intn(6) {
		case 0:
			fmt.Fprintf(&b, "kind: Namespace\nmetadata: {name: %s}\n", name)
		case 1:
			fmt.Fprintf(&b, "kind: Node\nmetadata: {name: %s, labels: {%s}}\nstatus: {allocatable: {cpu: %d}, conditions: [{type: Ready, status: '%s'}]}\n",
				name, e.pick("", "topology.kubernetes.io/zone: a", "topology.kubernetes.io/zone: a", "topology.kubernetes.io/zone: b"), 1+e.rng.Intn(2), e.pick("True", "True", "True", "False"))
		case 2, 3:
			fmt.Fprintf(&b, "kind: Service\nmetadata: {name: %s, namespace: %s, annotations: {%s}}\nspec:\n  ipFamilyPolicy: %s\n  selector: {app: %s}\n  ports: [{port: %d, targetPort: %s}]\n%s%s",
				name, namespace, e.pick("", "service.kubernetes.io/topology-mode: Auto"), e.pick("SingleStack", "PreferDualStack"), e.pick("blue", "green"), 1+e.rng.Intn(9), e.pick("80", "web"),
				e.pick("", "", "  clusterIP: None\n", "  clusterIP: 10.43.0.7\n", "  clusterIP: fd43::7\n"), e.pick("", "  trafficDistribution: PreferSameZone\n"))
		case 4:
			fmt.Fprintf(&b, "kind: Pod\nmetadata: {name: %s, namespace: %s, labels: {app: %s}}\nspec: {nodeName: o%d, containers: [{name: c, ports: [{name: web, containerPort: %d}]}]}\n"+
				"status: {podIPs: [{ip: 10.42.0.%d}, {ip: 'fd42::%d'}], conditions: [{type: Ready, status: '%s'}]}\n",
				name, namespace, e.pick("blue", "green"), e.rng.Intn(8), 80+e.rng.Intn(3), 1+e.rng.Intn(9), 1+e.rng.Intn(9), e.pick("True", "False"))
		case 5:
			fmt.Fprintf(&b, "kind: Endpoints\nmetadata: {name: %s, namespace: %s}\nsubsets: [{addresses: [{ip: 192.0.2.%d}], ports: [{port: 80}]}]\n",
				name, namespace, 1+e.rng.Intn(9))
		}
	}
	return b.String()
}
