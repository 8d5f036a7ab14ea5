package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"

	"github.com/clusterip/clusterip/cluster/manifest"
)

// Exit codes of coredns plan. 2 says there what it says of no other subcommand, so wrong
// usage has the code of sysexits.h.
const (
	exitFaults    = 1
	exitWouldStop = 2
	exitUsage     = 64
)

// runPlan shows what manifests serve and program otherwise than those of today. It writes
// nothing. Its exit codes are those above.
func runPlan(flags *flag.FlagSet, args []string) int {
	conf := flags.String("conf", "", "Corefile to read (default: ./Corefile, or else the defaults of all options, and nothing that is served today)")
	var before []string
	flags.Func("before", "`PATH` of the manifests of today, in place of what the Corefile names; may be there several times", func(path string) error {
		before = append(before, path)
		return nil
	})
	write := writeComparison
	flags.Func("o", "`format` of the output, text or json (default text)", func(format string) error {
		switch format {
		case "text":
			write = writeComparison
		case "json":
			write = writeComparisonJSON
		default:
			return errors.New("the formats are text and json")
		}
		return nil
	})
	paths, code, ok := planPaths(flags, args, &before)
	if !ok {
		return code
	}
	c, err := newComparison(*conf, before, paths)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFaults
	}
	c.tell()
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	code = write(out, c)
	if err := out.Flush(); err != nil {
		fmt.Fprintf(os.Stderr, "write what changes: %v\n", err)
		return exitFaults
	}
	return code
}

// planPaths reads the paths of a plan.
func planPaths(flags *flag.FlagSet, args []string, before *[]string) (paths []string, code int, ok bool) {
	paths, code, ok = parseArguments(flags, args)
	if !ok && code != 0 {
		code = exitUsage
	}
	if !ok {
		return nil, code, false
	}
	all := slices.Concat(*before, paths)
	switch {
	case len(paths) == 0:
		fmt.Fprintln(flags.Output(), "no manifests are given: name files or folders, or - for the standard input")
	case slices.Contains(all, ""):
		fmt.Fprintln(flags.Output(), "a path is empty: name files or folders, or - for the standard input")
	case slices.Index(all, manifest.Stdin) >= 0 && slices.Contains(all[slices.Index(all, manifest.Stdin)+1:], manifest.Stdin):
		fmt.Fprintln(flags.Output(), "- is there twice: the standard input can be read once")
	default:
		return paths, 0, true
	}
	flags.Usage()
	return nil, exitUsage, false
}
