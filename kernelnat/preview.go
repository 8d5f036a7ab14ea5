package kernelnat

import "github.com/clusterip/clusterip/cluster"

// Preview returns what a Controller on this node would have the Backend write at a start,
// when a source says this, and tells what it would tell. It writes nothing.
func Preview(u cluster.Update, options Options, log Logger) State {
	c := New(options, nil, log)
	c.enqueue(u)
	_, state, _ := c.takeChanges()
	state.Services, state.Known = c.table.Plans(), c.table.Known()
	return state
}
