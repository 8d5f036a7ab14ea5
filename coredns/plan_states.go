package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/allocator"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/difference"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/coredns/caddy"
)

// comparison is what coredns plan compares: what is served today, and what given manifests
// would have served.
type comparison struct {
	block         block
	configured    bool // there is a Corefile
	before, after difference.State
	cidrs         []netip.Prefix // of the given manifests
	fitted        bool           // the CIDRs are guessed from the addresses of Services
	faultsToday   int            // errors in the manifests of today
	problems      []planProblem  // of the given manifests
}

// planProblem is a Problem with the option of the Corefile that mends it.
type planProblem struct {
	manifest.Problem
	place string // in front of the text, or ""
}

// text is what coredns check prints.
func (p planProblem) text() string { return p.place + p.Error() }

// newComparison reads the Corefile and both states.
func newComparison(conf string, before, paths []string) (*comparison, error) {
	c := new(comparison)
	if err := c.configure(conf, len(before) == 0); err != nil {
		return nil, err
	}
	if len(before) == 0 && c.serves(paths) {
		c.problems = append(c.problems, planProblem{Problem: manifest.Problem{File: paths[0], Severity: manifest.Notice,
			Err: fmt.Errorf("this is the folder that %s serves, so it is compared with itself: say with -before what it was, or see with coredns rules -diff what this kernel lacks", c.block.names.Place("manifests"))}})
	}
	today, err := c.today(before)
	if err != nil {
		return nil, err
	}
	given := manifest.Given{Paths: paths, ServiceCIDRs: today.ServiceCIDRs, Fit: c.mayFit(), Held: clusterIPs(today)}
	if !today.Synced {
		given.ServiceCIDRs, given.State = c.block.names.Manifest.ServiceCIDRs, stateBeside(paths)
	}
	reading, err := given.Read(os.Stdin)
	if err != nil {
		return nil, err
	}
	c.fitted = c.fitted || reading.Fitted
	c.cidrs = reading.Update.ServiceCIDRs
	for _, p := range reading.Problems {
		place := ""
		if p.Option != "" && c.configured {
			place = c.block.names.Place(p.Option) + ": clusterip: "
		}
		c.problems = append(c.problems, planProblem{p, place})
	}
	c.before = c.state(today, func(cluster.ServiceName, string) {})
	c.after = c.state(reading.Update, func(service cluster.ServiceName, why string) {
		c.problems = append(c.problems, planProblem{Problem: manifest.Problem{Object: "Service " + service.String(), Err: errors.New(why)}})
	})
	return c, nil
}

// serves reports whether the one path that is given is the folder of manifests of the Corefile.
func (c *comparison) serves(paths []string) bool {
	if !c.configured || c.block.names.Manifest.Dir == "" || len(paths) != 1 {
		return false
	}
	given, err := os.Stat(paths[0])
	served, errServed := os.Stat(c.block.names.Manifest.Dir)
	return err == nil && errServed == nil && os.SameFile(given, served)
}

// withoutCorefile has the defaults of all options.
const withoutCorefile = `cluster.local {
    clusterip {
        manifests .
    }
    kernelnat
}
`

// configure reads the Corefile. sources says that it is to name where Services are today.
func (c *comparison) configure(conf string, sources bool) error {
	input, err := planCorefile(conf)
	if c.configured = input != nil; !c.configured {
		if err != nil {
			return err
		}
		input = caddy.CaddyfileInput{Contents: []byte(withoutCorefile), Filepath: "Corefile", ServerTypeName: serverType}
	}
	parsed, err := parse(input)
	if err != nil {
		return err
	}
	found, err := blocks(input.Path(), parsed)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("%s has no clusterip in any server block: there are no Services to compare with", input.Path())
	}
	c.block = found[0]
	for _, b := range found {
		if b.hasNAT {
			c.block = b
		}
		if sources && b.source() != found[0].source() {
			return fmt.Errorf("%s: clusterip: the Services are others than those of the server block at %s: say with -before which of them are to be compared", b.names.Place(), found[0].names.Place())
		}
	}
	return nil
}

// planCorefile is the Corefile that is given or in the working directory, nil if there is none.
func planCorefile(conf string) (caddy.Input, error) {
	if conf != "" {
		if err := mustExist(conf); err != nil {
			return nil, err
		}
		return readCorefile(conf)
	}
	input, err := readCorefile(caddy.DefaultConfigFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return input, err
}

// source is the same for server blocks that have the same Services.
func (b *block) source() string {
	if b.names.Manifest.Dir != "" {
		return fmt.Sprintf("%+v", b.names.Manifest)
	}
	return fmt.Sprintf("%+v", b.names.API)
}

// mayFit reports whether nothing but the Services says where ClusterIPs come from.
func (c *comparison) mayFit() bool { return !c.configured || c.block.names.Manifest.Dir == "" }

// today returns what is served today, the zero value for nothing.
func (c *comparison) today(before []string) (cluster.Update, error) {
	var problems []manifest.Problem
	defer func() {
		for _, p := range problems {
			if p.Severity == manifest.Error {
				c.faultsToday++
			}
		}
	}()
	switch names := &c.block.names; {
	case len(before) > 0:
		given := manifest.Given{Paths: before, ServiceCIDRs: names.Manifest.ServiceCIDRs, Fit: c.mayFit(), State: stateBeside(before)}
		reading, err := given.Read(os.Stdin)
		c.fitted, problems = reading.Fitted, reading.Problems
		return reading.Update, err
	case !c.configured:
		return cluster.Update{}, nil
	}
	update, found, err := objects(c.block)
	problems = found
	return update, err
}

// stateBeside is the state file that a server of a folder has left there, if one folder is all
// that is given; else there is none.
func stateBeside(paths []string) string {
	if info, err := os.Stat(paths[0]); len(paths) > 1 || err != nil || !info.IsDir() {
		return ""
	}
	return manifest.Options{Dir: paths[0]}.StateFile()
}

// clusterIPs are those that Services have.
func clusterIPs(u cluster.Update) allocator.Allocations {
	held := make(allocator.Allocations, len(u.Services))
	for _, s := range u.Services {
		if s.Service != nil && len(s.Service.ClusterIPs) > 0 {
			held[s.Name] = s.Service.ClusterIPs
		}
	}
	return held
}

// state is what is served and programmed of an Update. What Services ask for and do not get is
// told to refused.
func (c *comparison) state(u cluster.Update, refused func(cluster.ServiceName, string)) difference.State {
	var out difference.State
	for _, s := range u.Services {
		if s.Service != nil {
			out.Services = append(out.Services, s.Service)
		}
	}
	for _, family := range cluster.Families {
		options := c.block.nat.Options
		options.Family, options.Refused = family, refused
		out.Plans = append(out.Plans, kernelnat.Preview(u, options, false).Services)
	}
	return out
}

// tell prints what is wrong with, or worth knowing of, the given manifests.
func (c *comparison) tell() {
	told := newReport()
	if c.fitted {
		told.notice("service_cidr is taken from the addresses of the Services: %s", strings.Join(texts(c.cidrs), " "))
	}
	if c.faultsToday > 0 {
		told.notice("errors in the manifests of today: %d; what is at fault there counts as not served today", c.faultsToday)
	}
	for _, p := range c.problems {
		told.notice("%s", p.text())
	}
}

// exitCode is that of coredns plan. Manifests with faults say something else than what was
// meant, so these are more important than what would stop.
func (c *comparison) exitCode(t *difference.Totals) int {
	for _, p := range c.problems {
		if p.Severity == manifest.Error {
			return exitFaults
		}
	}
	if t.Stops() > 0 {
		return exitWouldStop
	}
	return 0
}
