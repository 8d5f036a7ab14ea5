package kernelnat

import "github.com/clusterip/clusterip/cluster"

// Preview returns what a Controller would have the Backend write at a start, after a source
// has said this, and tells what it would tell. What this machine itself knows counts if the
// Controller would run here. It writes nothing.
func Preview(u cluster.Update, options Options, here bool, log Logger) State {
	c := New(options, nil, log)
	c.network.elsewhere = !here
	c.enqueue(u)
	_, state, _ := c.takeChanges()
	state.Services, state.Known = c.table.Plans(), c.table.Known()
	return state
}
