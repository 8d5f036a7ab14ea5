package kubetest

import (
	"bytes"
	"encoding/json"
	"net/http"
	"path/filepath"
)

// Etcd is the etcd of a control plane. Kubernetes asks it how far a watch has come,
// which it has to answer if the API server is to stream lists.
type Etcd string

const (
	// Listing is Debian 12's, of version 3.4. With it the API server lists in one
	// piece, as all did before Kubernetes 1.34.
	Listing Etcd = "etcd"
	// Streaming is what Kubernetes is released with. With it the API server
	// streams a list as a watch that begins with all objects.
	Streaming Etcd = "etcd-streaming"
)

// gates are the API server's feature gates where they are not the usual.
func (e Etcd) gates() []string {
	if e == Listing {
		// It fails several times a second with Debian's etcd 3.4, which has no
		// progress requests that can be relied on.
		return []string{"--feature-gates=SizeBasedListCostEstimate=false"}
	}
	return nil
}

// startEtcd returns it with the URL for clients.
func (c *ControlPlane) startEtcd() (*Process, string) {
	c.t.Helper()
	client, peer := "http://"+freeAddress(c.t), "http://"+freeAddress(c.t)
	p := StartOn(c.t, nil, c.command(string(c.kind),
		"--data-dir="+filepath.Join(c.dir, "etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer,
		"--initial-cluster=default="+peer,
	))
	return p, client
}

// Compact has etcd forget all that was before now, which Kubernetes has it do every
// five minutes with what is older than that.
func (c *ControlPlane) Compact() {
	c.t.Helper()
	var now struct {
		Header struct{ Revision string }
	}
	if err := json.Unmarshal(c.askEtcd("range", map[string]any{"key": []byte("any")}), &now); err != nil {
		c.t.Fatal(err)
	}
	c.askEtcd("compaction", map[string]any{"revision": now.Header.Revision, "physical": true})
}

// askEtcd makes a request of etcd's KV service.
func (c *ControlPlane) askEtcd(method string, message map[string]any) []byte {
	c.t.Helper()
	question, err := json.Marshal(message)
	if err != nil {
		c.t.Fatal(err)
	}
	client := http.Client{Timeout: patience}
	answer, err := bodyOf(client.Post(c.etcdURL+"/v3/kv/"+method, "application/json", bytes.NewReader(question)))
	if err != nil {
		c.t.Fatalf("%s of etcd: %v", method, err)
	}
	return answer
}
