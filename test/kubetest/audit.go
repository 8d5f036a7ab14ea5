package kubetest

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
)

// auditFile is where the API server notes what it is asked, in the control plane's
// folder.
const auditFile = "audit.log"

// auditPolicy notes what the tests' own users list and watch, before it is answered.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [ResponseStarted, ResponseComplete, Panic]
rules:
- level: Metadata
  users: [admin, "` + ServiceAccount + `"]
  verbs: [list, watch]
`

func (c *ControlPlane) auditFlags() []string {
	c.t.Helper()
	return []string{
		"--audit-policy-file=" + c.write("audit.yaml", []byte(auditPolicy)),
		"--audit-log-path=" + filepath.Join(c.dir, auditFile),
	}
}

// Lists returns the requests with which a client of a name (its user agent) has
// listed or watched a resource so far, the first one first.
func (c *ControlPlane) Lists(agent, resource string) []*url.URL {
	c.t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, auditFile))
	if err != nil {
		c.t.Fatal(err)
	}
	var out []*url.URL
	for line := range bytes.Lines(text) {
		var event struct {
			UserAgent  string
			RequestURI string
			ObjectRef  struct{ Resource string }
		}
		if err := json.Unmarshal(line, &event); err != nil {
			c.t.Fatalf("read %s: %v", auditFile, err)
		}
		if event.UserAgent != agent || event.ObjectRef.Resource != resource {
			continue
		}
		asked, err := url.Parse(event.RequestURI)
		if err != nil {
			c.t.Fatalf("read %s: %v", auditFile, err)
		}
		out = append(out, asked)
	}
	return out
}
