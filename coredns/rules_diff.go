package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/status"
)

// driftTimeout bounds how long reading the kernel's rules may take.
const driftTimeout = 5 * time.Minute

// familyDrift is what a start would change in one IP family.
type familyDrift struct {
	Family  string         `json:"family"`
	Backend string         `json:"backend"`
	Drift   []status.Drift `json:"drift"`

	services int // that want rules
}

// onlyCommon reports whether no Service has a part in it: rules that all need would be added.
func (f *familyDrift) onlyCommon() bool {
	return f.services == 0 && !slices.ContainsFunc(f.Drift, func(d status.Drift) bool { return d.Service != "" || d.Change != status.DriftAdd })
}

// diffRules prints what a start of the program would change in this kernel, and reports whether
// that is anything.
func diffRules(b *block, q *rulesQuestion, told *report) (changes bool, err error) {
	update, err := objectsForRules(b, told)
	if err != nil {
		return false, err
	}
	if proxies, err := netfilter.Proxies(); err == nil && len(proxies) > 0 {
		told.notice("kube-proxy runs here (process %d): it undoes what kernelnat writes, and what it writes would be undone", proxies[0])
	}
	if b.nat.DryRun {
		told.notice("%s: kernelnat: dry_run is set: a start would write nothing of this", b.nat.Place("dry_run"))
	}
	ctx, cancel := context.WithTimeout(context.Background(), driftTimeout)
	defer cancel()
	states := make(map[cluster.Family]kernelnat.State)
	var backend backends.Backend
	for _, family := range q.families {
		if backend, states[family], err = plannedRules(b, update, family, told); err != nil {
			return false, err
		}
	}
	drift, err := backend.Drift(ctx, states, b.nat.Settings)
	if err != nil {
		return false, err
	}
	var all []familyDrift
	for _, family := range q.families {
		changes = changes || len(drift[family]) > 0
		all = append(all, familyDrift{family.String(), backend.Name, append([]status.Drift{}, drift[family]...), len(states[family].Services)})
	}
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	if q.json {
		err = writeDriftJSON(out, all, changes)
	} else {
		for i := range all {
			writeDrift(out, &all[i])
		}
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		err = fmt.Errorf("write what changes: %w", err)
	}
	return changes, err
}

var driftMarks = map[status.DriftChange]string{status.DriftAdd: "+", status.DriftRemove: "-", status.DriftChanged: "~"}

// maxDrift is how many lines of one Service people are shown.
const maxDrift = 50

// writeDrift prints the lines of each Service below its name.
func writeDrift(w io.Writer, f *familyDrift) {
	if len(f.Drift) == 0 {
		fmt.Fprintf(w, "%s, %s: nothing would change.\n", f.Family, f.Backend)
		return
	}
	if f.onlyCommon() {
		fmt.Fprintf(w, "%s, %s: no Service wants rules; %d would be added that all Services need; -o json has them.\n", f.Family, f.Backend, len(f.Drift))
		return
	}
	counts := make(map[status.DriftChange]int)
	fmt.Fprintf(w, "%s, %s:\n", f.Family, f.Backend)
	shown := 0
	for i, d := range f.Drift {
		counts[d.Change]++
		if i == 0 || d.Service != f.Drift[i-1].Service {
			writeLeftOut(w, shown)
			shown = 0
			writeDriftOwner(w, &f.Drift[i])
		}
		if shown++; shown <= maxDrift {
			fmt.Fprintf(w, "  %s %s\n", driftMarks[d.Change], driftText(&f.Drift[i]))
		}
	}
	writeLeftOut(w, shown)
	fmt.Fprintf(w, "%s: %d would be added, %d removed, %d changed.\n", f.Family, counts[status.DriftAdd], counts[status.DriftRemove], counts[status.DriftChanged])
}

func writeLeftOut(w io.Writer, lines int) {
	if lines > maxDrift {
		fmt.Fprintf(w, "  and %d more; -o json has all\n", lines-maxDrift)
	}
}

func writeDriftOwner(w io.Writer, d *status.Drift) {
	if d.Service == "" {
		fmt.Fprintln(w, " of no Service alone")
		return
	}
	fmt.Fprintf(w, " Service %s\n", d.Service)
}

func driftText(d *status.Drift) string {
	text := d.Text
	if d.Was != "" {
		text += "; today " + d.Was
	}
	if d.Of != "" {
		text += " (" + d.Of + ")"
	}
	return text
}

// writeDriftJSON prints one object.
func writeDriftJSON(w io.Writer, all []familyDrift, changes bool) error {
	return json.NewEncoder(w).Encode(struct {
		Version  int           `json:"version"`
		Changes  bool          `json:"changes"`
		Families []familyDrift `json:"families"`
	}{1, changes, all})
}
