package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/kernelnat/iptables"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// runRules prints what kernelnat would program for the Corefile's manifests. It
// asks neither for root nor for a kernelnat stanza: without one the defaults
// hold.
func runRules(args []string) int {
	flags := flag.NewFlagSet("coredns rules", flag.ContinueOnError)
	conf := confFlag(flags)
	backend := flags.String("backend", "iptables", "`backend` whose rules to print")
	family := flags.Int("family", 4, "IP `version`, 4 or 6")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *backend != "iptables" || (*family != 4 && *family != 6) {
		fmt.Fprintln(os.Stderr, "usage: coredns rules [-conf FILE] [-backend iptables] [-family 4|6]")
		return 2
	}
	input, done, err := subcommandCorefile(*conf)
	defer done()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	found, err := blocks(input)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if len(found) == 0 {
		fmt.Fprintf(os.Stderr, "%s has no clusterip in any server block: there are no Services to make rules for\n", input.Path())
		return 1
	}
	for _, b := range found {
		if err := printRules(b, cluster.Family(*family)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func printRules(b block, family cluster.Family) error {
	update, problems, err := manifest.Load(b.names.Manifest)
	if err != nil {
		return err
	}
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p)
	}
	var services []plan.Service
	for _, u := range update.Services {
		if s := plan.Compute(u.Service, b.nat.NodeName, b.nat.Plan); len(s.Ports) > 0 {
			services = append(services, s)
		}
	}
	return iptables.Rules(os.Stdout, family, services, iptables.Options{MasqueradeBit: b.nat.MasqueradeBit})
}
