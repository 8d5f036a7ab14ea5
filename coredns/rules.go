package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/kubernetes"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/coredns/caddy"
)

// rulesQuestion is what coredns rules is asked.
type rulesQuestion struct {
	conf     *string
	backend  string // "": the Corefile's
	families []cluster.Family
	diff     bool
	json     bool
}

// runRules prints what kernelnat would program for the Corefile's Services, or with -diff what
// that changes in this kernel. Without -diff it asks neither for root nor for a kernelnat stanza:
// without one the defaults hold.
func runRules(flags *flag.FlagSet, args []string) int {
	var q rulesQuestion
	q.flags(flags)
	if code, ok := parseFlags(flags, args); !ok {
		return code
	}
	if q.json && !q.diff {
		fmt.Fprintln(flags.Output(), "-o is for -diff: rules are printed in the words of their tool")
		return 2
	}
	input, done, err := subcommandCorefile(*q.conf)
	defer done()
	var found []block
	if err == nil {
		found, err = q.blocks(input)
	}
	told, changes := newReport(), false
	for i := 0; i < len(found) && err == nil; i++ {
		if q.diff {
			changes, err = diffRules(&found[i], &q, told)
		} else {
			err = printRules(&found[i], q.families[0], told)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if changes {
		return 1
	}
	return 0
}

func (q *rulesQuestion) flags(flags *flag.FlagSet) {
	q.conf, q.families = confFlag(flags), cluster.Families
	flags.Func("backend", "`name` of the backend whose rules to print: "+backends.Names()+" (default: the Corefile's)", func(name string) error {
		q.backend = name
		_, err := backends.Find(name)
		return err
	})
	flags.Func("family", "IP `version`, 4 or 6 (default 4, and both with -diff)", func(version string) error {
		family, known := map[string]cluster.Family{"4": cluster.IPv4, "6": cluster.IPv6}[version]
		if !known {
			return errors.New("the IP versions are 4 and 6")
		}
		q.families = []cluster.Family{family}
		return nil
	})
	flags.BoolVar(&q.diff, "diff", false, "print what a start would change in this kernel, and exit with 1 if anything; as root")
	flags.Func("o", "`format` of -diff, text or json (default text)", func(format string) error {
		if q.json = format == "json"; !q.json && format != "text" {
			return errors.New("the formats are text and json")
		}
		return nil
	})
}

// blocks returns the server blocks whose rules are asked for: with -diff the one with kernelnat,
// which alone would write any.
func (q *rulesQuestion) blocks(input caddy.Input) ([]block, error) {
	parsed, err := parse(input)
	if err != nil {
		return nil, err
	}
	found, err := blocks(input.Path(), parsed)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no clusterip in any server block: there are no Services to make rules for", input.Path())
	}
	if q.diff {
		found = slices.DeleteFunc(found, func(b block) bool { return !b.hasNAT })
		if len(found) == 0 {
			return nil, fmt.Errorf("%s has no kernelnat in any server block: a start would not look at the kernel's rules", input.Path())
		}
	}
	for i := range found {
		if q.backend == "" {
			break
		}
		if err := found[i].nat.Use(q.backend); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func printRules(b *block, family cluster.Family, told *report) error {
	update, err := objectsForRules(b, told)
	if err != nil {
		return err
	}
	backend, state, err := plannedRules(b, update, family, told)
	if err != nil {
		return err
	}
	return backend.Rules(os.Stdout, family, state, b.nat.Settings)
}

// objectsForRules returns what the server would start with, and tells what is wrong with it.
func objectsForRules(b *block, told *report) (cluster.Update, error) {
	update, problems, err := objects(*b)
	for _, p := range problems {
		told.notice("%v", p)
	}
	if err != nil {
		return update, err
	}
	self := b.nat.Node(b.names.Manifest.Dir == "")
	if err := kernelnat.AwaitsNode(update, self); err != nil {
		return update, err
	}
	for _, what := range kernelnat.NodeFaults(update, self) {
		told.notice("kernelnat: %v", what)
	}
	return update, nil
}

// plannedRules returns what the kernel is to hold in one family, and by which backend.
func plannedRules(b *block, update cluster.Update, family cluster.Family, told *report) (backends.Backend, kernelnat.State, error) {
	backend, why, err := backends.Choose(b.nat.Backend)
	if err != nil {
		return backend, kernelnat.State{}, err
	}
	if b.nat.Backend == backends.Auto {
		told.notice("kernelnat: backend %s is %s: %s", b.nat.Backend, backend.Name, why)
	}
	options := b.nat.Options
	options.Family = family
	backend.LimitHere(&options.Plan)
	options.Overlaps = func(o plan.Overlap) { told.notice("kernelnat: %v", o) }
	options.Refused = func(service cluster.ServiceName, why string) {
		told.notice("kernelnat: Service %s: %s", service, why)
	}
	return backend, kernelnat.Preview(update, options, true), nil
}

// objects returns what the server would start with, and what is wrong with the manifests.
func objects(b block) (cluster.Update, []manifest.Problem, error) {
	if b.names.Manifest.Dir != "" {
		return manifest.Load(b.names.Manifest)
	}
	ctx, cancel := context.WithTimeout(context.Background(), b.names.StartupTimeout)
	defer cancel()
	o := b.names.API
	o.Node = b.nat.NodeName
	update, err := kubernetes.Load(ctx, o)
	return update, nil, err
}
