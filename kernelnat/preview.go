package kernelnat

import (
	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/status"
)

// Preview returns what a Controller would have the Backend write at a start, after a source
// has said this; Refused and Overlaps of the Options hear of it. What this machine itself knows
// counts if the Controller would run here. It writes nothing, and logs nothing.
func Preview(u cluster.Update, options Options, here bool) State {
	c, state := preview(u, options, here)
	state.Services, state.Known = c.table.Plans(), c.table.Known()
	return state
}

// PreviewStatus returns what a Controller would publish then, which has written nothing yet.
// It tells nothing.
func PreviewStatus(u cluster.Update, options Options, here bool) status.NAT {
	c, state := preview(u, options, here)
	services, ports := c.table.Counts()
	return status.NAT{
		Family: options.Family, Services: services, Ports: ports, Short: c.table.Shortfalls(), Node: c.table.Node(), Ranges: state.Ranges,
	}
}

func preview(u cluster.Update, options Options, here bool) (*Controller, State) {
	c := New(options, nil, silent{})
	c.network.elsewhere = !here
	c.enqueue(u)
	_, state, _ := c.takeChanges()
	return c, state
}

// silent is a Logger of what is told otherwise.
type silent struct{}

func (silent) Infof(string, ...any) {}

func (silent) Errorf(string, ...any) {}
