// Package kubernetes runs the real program beside a real API server: objects are
// created, changed and deleted there, and what the program answers is looked at
// with dig. The API server crashes, starts anew, and refuses.
package kubernetes

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
)

// patience bounds every wait for something that should come about. After an outage
// the program may leave the API server alone for up to 20 seconds.
const patience = 60 * time.Second

func TestMain(m *testing.M) { kubetest.Main(m.Run) }

// program is one that runs, and its Corefile.
type program struct {
	*kubetest.Process
	t              *testing.T
	corefile       string
	zones          string
	dns            string // port
	metrics, ready string // addresses
}

const corefile = `%[1]s {
	bind 127.0.0.1
	errors
	prometheus %[2]s
	ready %[3]s {
		monitor continuously
	}
	clusterip %[1]s {
		%[4]s
	}
}
`

// start runs the program with options of clusterip.
func start(t *testing.T, options ...string) *program {
	t.Helper()
	return startWith(t, "cluster.local in-addr.arpa ip6.arpa", options...)
}

func startWith(t *testing.T, zones string, options ...string) *program {
	t.Helper()
	p := &program{t: t, corefile: filepath.Join(t.TempDir(), "Corefile"), zones: zones, dns: kubetest.FreePort(t)}
	p.metrics, p.ready = "127.0.0.1:"+kubetest.FreePort(t), "127.0.0.1:"+kubetest.FreePort(t)
	p.configure(options...)
	p.Process = kubetest.StartOn(t, nil, exec.Command(kubetest.Program(t, true), "-conf", p.corefile, "-dns.port", p.dns))
	return p
}

// configure writes the Corefile.
func (p *program) configure(options ...string) {
	p.t.Helper()
	text := fmt.Sprintf(corefile, p.zones, p.metrics, p.ready, strings.Join(options, "\n\t\t"))
	if err := os.WriteFile(p.corefile, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// dig returns the answers, in the order given, after the response code: "NOERROR
// 10.43.0.7".
func (p *program) dig(name, qtype string) string {
	var words []string
	for line := range strings.Lines(p.reply(name, qtype)) {
		if _, status, ok := strings.Cut(line, "status: "); ok {
			status, _, _ = strings.Cut(status, ",")
			words = append(words, status)
		} else if fields := strings.Fields(line); len(fields) >= 5 && !strings.HasPrefix(line, ";") {
			words = append(words, strings.Join(fields[4:], " "))
		}
	}
	return strings.Join(words, " ")
}

// explains returns the extended error in the reply, or "".
func (p *program) explains(name string) string {
	for line := range strings.Lines(p.reply(name, "A")) {
		if said, ok := strings.CutPrefix(line, "; EDE: "); ok {
			return strings.TrimSpace(said)
		}
	}
	return ""
}

// reply is what dig prints of the reply, or an error.
func (p *program) reply(name, qtype string) string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, "dig", "@127.0.0.1", "-p", p.dns, "+tries=1", "+time=2",
		"+noall", "+comments", "+answer", name, qtype).Output()
	if err != nil {
		return "status: " + err.Error()
	}
	return string(out)
}

// answers waits until the program gives an answer.
func (p *program) answers(name, qtype, want string) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("%s %s", name, qtype), func() error {
		if got := p.dig(name, qtype); got != want {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
}

// eventually fails the test unless the condition comes true in good time.
func (p *program) eventually(what string, condition func() error) {
	p.t.Helper()
	clustertest.Eventually(p.t, patience, what, condition)
}

// logs waits until the program has logged a text.
func (p *program) logs(text string) {
	p.t.Helper()
	p.eventually("a line in the log", p.Says(text))
}

// readiness waits until the ready plugin says so.
func (p *program) readiness(status string) {
	p.t.Helper()
	p.eventually("readiness", func() error {
		response, err := http.Get("http://" + p.ready + "/ready")
		if err != nil {
			return err
		}
		response.Body.Close()
		if !strings.HasPrefix(response.Status, status) {
			return fmt.Errorf("it is %s, want %s", response.Status, status)
		}
		return nil
	})
}

// exported returns the metrics of the program.
func (p *program) exported() string {
	p.t.Helper()
	response, err := http.Get("http://" + p.metrics + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(text)
}
