// Package demo plays the ClusterIP walk-through live on one machine: it lays out
// a node, pods and a client in network namespaces of their own, runs the real
// server on the node, types the commands of the walk-through, shows what they
// print, and checks it.
//
// What a cluster would do besides is played too: the parts of the Deployment and
// StatefulSet controllers and of the kubelet (Pod manifests are written, echo
// servers started), and of the cluster's DNS Service, through whose ClusterIP
// the client asks. Nothing of the machine is changed, and nothing stays behind.
//
// Needs root, and the tools that Run names when they are missing. steps.go is the
// script, stage.go the set, deployment.go the extras.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/clusterip/clusterip/kernelnat/netlab"
)

// Options says what to play and where to show it.
type Options struct {
	Executable string    // the coredns binary that serves on the node
	Out        io.Writer // gets the play
	Color      bool      // use escape sequences in Out
	Shell      bool      // at the end, run a shell in the client on the standard streams
}

// tools are the programs the play runs, and the Debian packages they are in.
var tools = []struct{ name, debian string }{
	{"curl", "curl"},
	{"host", "bind9-host"},
	{"iptables", "iptables"},
	{"iptables-restore", "iptables"},
	{"mount", "mount"},
	{"nft", "nftables"},
	{"sed", "sed"},
}

// Run plays the whole script. It returns nil if every step showed what the
// walk-through says, else the first that did not; the play ends there. When the
// context is done it ends at once. However it ends, it has cleaned up.
func Run(ctx context.Context, o Options) error {
	if err := check(); err != nil {
		return err
	}
	began := time.Now()
	s, err := newStage(ctx, o.Executable)
	if err != nil {
		return err
	}
	page, err := s.relayPage(s.up)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	p := &play{ctx: s.up, stage: s, page: page, screen: screen{out: o.Out, color: o.Color}}
	p.screen.note(fmt.Sprintf(`A node (%s), where CoreDNS serves the manifests in %s,
and a client pod (%s), in network namespaces of their own. See the node in a
browser, as long as this runs: http://%s/`,
		netlab.GatewayIPv4.Addr(), s.dir, clientIP, page))
	err = p.perform(script)
	if err == nil {
		p.screen.note(fmt.Sprintf("Every step showed what the notes say, in %.0f s.", time.Since(began).Seconds()))
		if o.Shell {
			err = p.shell()
		}
	} else if ctx.Err() == nil {
		err = fmt.Errorf("%w\nThe last lines of the server's log:\n%s", err, s.logTail())
	}
	return errors.Join(err, s.Close())
}

// check says what this machine lacks for the play.
func check() error {
	if os.Geteuid() != 0 {
		return errors.New("the demo makes network namespaces, which needs root: run it with sudo")
	}
	var missing, packages []string
	for _, t := range tools {
		if _, err := exec.LookPath(t.name); err != nil {
			missing = append(missing, t.name)
			if !slices.Contains(packages, t.debian) {
				packages = append(packages, t.debian)
			}
		}
	}
	if missing != nil {
		return fmt.Errorf("the demo runs programs that are not in PATH (%s): %s; on Debian: apt-get install %s",
			os.Getenv("PATH"), strings.Join(missing, ", "), strings.Join(packages, " "))
	}
	if err := netlab.Check(); err != nil {
		return fmt.Errorf("the demo cannot make network namespaces here: %w", err)
	}
	return nil
}
