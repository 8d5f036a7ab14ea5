package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/kubernetes"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// runRules prints what kernelnat would program for the Corefile's Services. It
// asks neither for root nor for a kernelnat stanza: without one the defaults
// hold.
func runRules(flags *flag.FlagSet, args []string) int {
	conf := confFlag(flags)
	backend := ""
	flags.Func("backend", "`name` of the backend whose rules to print: "+backends.Names()+" (default: the Corefile's)", func(name string) error {
		backend = name
		_, err := backends.Find(name)
		return err
	})
	family := cluster.IPv4
	flags.Func("family", "IP `version`, 4 or 6 (default 4)", func(version string) error {
		switch version {
		case "4":
			family = cluster.IPv4
		case "6":
			family = cluster.IPv6
		default:
			return errors.New("the IP versions are 4 and 6")
		}
		return nil
	})
	if code, ok := parseFlags(flags, args); !ok {
		return code
	}
	input, done, err := subcommandCorefile(*conf)
	defer done()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	parsed, err := parse(input)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	found, err := blocks(input.Path(), parsed)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if len(found) == 0 {
		fmt.Fprintf(os.Stderr, "%s has no clusterip in any server block: there are no Services to make rules for\n", input.Path())
		return 1
	}
	told := newReport()
	for _, b := range found {
		if backend != "" {
			if err := b.nat.Use(backend); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		if err := printRules(b, family, told); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func printRules(b block, family cluster.Family, told *report) error {
	update, problems, err := objects(b)
	for _, p := range problems {
		told.notice("%v", p)
	}
	if err != nil {
		return err
	}
	self := b.nat.Node(b.names.Manifest.Dir == "")
	if err := kernelnat.AwaitsNode(update, self); err != nil {
		return err
	}
	for _, what := range kernelnat.NodeFaults(update, self) {
		told.notice("kernelnat: %v", what)
	}
	backend, why, err := backends.Choose(b.nat.Backend)
	if err != nil {
		return err
	}
	if b.nat.Backend == backends.Auto {
		told.notice("kernelnat: backend %s is %s: %s", b.nat.Backend, backend.Name, why)
	}
	options := b.nat.Options
	options.Family = family
	backend.Limit(&options.Plan)
	options.Overlaps = func(o plan.Overlap) { told.notice("kernelnat: %v", o) }
	options.Refused = func(service cluster.ServiceName, why string) {
		told.notice("kernelnat: Service %s: %s", service, why)
	}
	state := kernelnat.Preview(update, options, true)
	return backend.Rules(os.Stdout, family, state, b.nat.Settings)
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
