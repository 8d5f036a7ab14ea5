package kernelnat

import "github.com/clusterip/clusterip/cluster"

// Preview returns the state that a Controller on this node would have its Backend write
// at a start, given what a source says. It logs what the Controller would log, and writes
// nothing.
func Preview(u cluster.Update, options Options, log Logger) State {
	c := New(options, nil, log)
	c.enqueue(u)
	_, state, _ := c.takeChanges()
	state.Services, state.Known = c.table.Plans(), c.table.Known()
	return state
}
