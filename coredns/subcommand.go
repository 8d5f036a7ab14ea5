package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
)

// subcommand is what the program does besides being CoreDNS. Its data goes to
// stdout, talk to stderr.
type subcommand struct {
	name, arguments, purpose string
	// run gets the flags of the method flags, to which it adds its own, and
	// returns the exit code: 0 all well, 1 found a problem, 2 wrong usage; see runPlan for
	// another use of 2.
	run func(flags *flag.FlagSet, args []string) int
}

func findSubcommand(name string) (subcommand, bool) {
	i := slices.IndexFunc(subcommands, func(s subcommand) bool { return s.name == name })
	if i < 0 {
		return subcommand{}, false
	}
	return subcommands[i], true
}

// flags returns an empty set with the subcommand's usage.
func (s subcommand) flags() *flag.FlagSet {
	flags := flag.NewFlagSet("coredns "+s.name, flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: %s\n", strings.TrimSpace(flags.Name()+" "+s.arguments))
		flags.PrintDefaults()
	}
	return flags
}

// parseFlags reads the arguments of a subcommand that has only flags. If it is
// not ok the reason and the usage are printed, and code is the exit code.
func parseFlags(flags *flag.FlagSet, args []string) (code int, ok bool) {
	arguments, code, ok := parseArguments(flags, args)
	if len(arguments) > 0 {
		fmt.Fprintf(flags.Output(), "unknown argument %q: %s takes flags only\n", arguments[0], flags.Name())
		flags.Usage()
		return 2, false
	}
	return code, ok
}

// parseArguments reads flags and arguments, which may stand in any order, as for kubectl. If it is
// not ok the reason and the usage are printed, and code is the exit code.
func parseArguments(flags *flag.FlagSet, args []string) (arguments []string, code int, ok bool) {
	for {
		switch err := flags.Parse(args); {
		case errors.Is(err, flag.ErrHelp):
			return nil, 0, false
		case err != nil:
			return nil, 2, false
		case flags.NArg() == 0:
			return arguments, 0, true
		}
		arguments, args = append(arguments, flags.Arg(0)), flags.Args()[1:]
	}
}

// usage is that of the program as a whole.
func usage() {
	out := flag.CommandLine.Output()
	fmt.Fprintln(out, "usage: coredns [FLAGS], or coredns SUBCOMMAND [-h]. The subcommands:")
	for _, s := range subcommands {
		fmt.Fprintf(out, "  %-9s %s\n", s.name, s.purpose)
	}
	fmt.Fprintln(out, "Without one it is CoreDNS and serves the Corefile. Its flags:")
	flag.PrintDefaults()
}

// refuse says what can stand in place of an argument, and returns the exit code.
func refuse(argument string) int {
	if s, ok := findSubcommand(argument); ok {
		fmt.Fprintf(os.Stderr, "coredns: the subcommand %s stands behind flags: put it first, coredns %s [-h]\n", s.name, s.name)
		return 2
	}
	names := make([]string, len(subcommands))
	for i, s := range subcommands {
		names[i] = s.name
	}
	fmt.Fprintf(os.Stderr, "coredns: unknown argument %q: the subcommands are %s; coredns -h says more\n", argument, strings.Join(names, ", "))
	return 2
}

// withSbin appends the folders of system programs to a PATH.
func withSbin(path string) string {
	const sbin = "/usr/sbin:/sbin"
	if path == "" {
		return sbin // with ":" in front the working directory would be in it
	}
	return path + ":" + sbin
}
