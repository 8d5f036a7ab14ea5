package differential

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/clusterip/clusterip/test/kubetest"
	"github.com/google/go-cmp/cmp"
)

const apiCorefile = `.:53 {
	bind 10.42.0.1
	errors
	clusterip cluster.local {
		kubeconfig %s
	}
	kernelnat {
		node_name %s
		cluster_cidr 10.42.0.0/16 fd00:10:42::/64
		conntrack_max_per_core 0
	}
}
`

// startOursAs runs the program on the node, under the name of a Node of the API server.
func (n *node) startOursAs(c *kubetest.ControlPlane, name string) *kubetest.Process {
	n.t.Helper()
	return kubetest.StartProgram(n.t, n.Host, true, fmt.Sprintf(apiCorefile, c.KubeconfigOn(n.Host), name))
}

// A Node that there is not is told in the log, and load balancers are told that the node
// is not eligible, until the Node comes. A name in capitals is that in lower case.
func TestNodeThatIsMissing(t *testing.T) {
	require(t)
	c := kubetest.Start(t)
	theirs, ours := newNode(t), newNode(t)
	name := strings.ToUpper(kubetest.NodeName)
	proxy, own := c.LaunchProxy(theirs.Node, "iptables", name), ours.startOursAs(c, name)
	says := func(want string) {
		t.Helper()
		var told [2]nodeHealth
		eventually(t, want, func() error {
			for i, n := range []*node{theirs, ours} {
				var err error
				if told[i], err = n.health(); err != nil {
					return fmt.Errorf("%d: %w", i, err)
				}
			}
			if told[0].Answer != want {
				return fmt.Errorf("kube-proxy says %v", told[0])
			}
			if diff := cmp.Diff(told[0], told[1]); diff != "" {
				return fmt.Errorf("kube-proxy (-), ours (+):\n%s", diff)
			}
			return nil
		})
	}
	// kube-proxy waits for the Node before it answers.
	clustertest.Eventually(t, 2*patience, "kube-proxy's error", proxy.Says("Timed out waiting for node to exist"))
	eventually(t, "our error", own.Says(`no Node is called "node-1"`))
	says("503 Service Unavailable")
	c.AddNode(kubetest.Node())
	eventually(t, "ours with the Node", func() error {
		h, err := ours.health()
		if err == nil && h.Answer != "200 OK" {
			err = fmt.Errorf("it says %v", h)
		}
		return err
	})
}

// nodeHealth is what /healthz says, without times.
type nodeHealth struct {
	Answer      string `json:"-"`
	ContentType string `json:"-"`
	Eligible    *bool  `json:"nodeEligible"`
	Healthy     bool   `json:"healthy"`
}

func (n *node) health() (nodeHealth, error) {
	response, err := kubetest.Request(n.Outside, netip.AddrPortFrom(netlab.NodeIPv4.Addr(), 10256), "/healthz")
	if err != nil {
		return nodeHealth{}, err
	}
	defer response.Body.Close()
	h := nodeHealth{Answer: response.Status, ContentType: response.Header.Get("Content-Type")}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
		return h, fmt.Errorf("%s", response.Status)
	}
	return h, json.NewDecoder(response.Body).Decode(&h)
}
