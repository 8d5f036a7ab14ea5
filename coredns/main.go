// Command coredns is CoreDNS with the plugins clusterip and kernelnat. Its first
// argument may be one of the subcommands below; everything else is CoreDNS.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/coremain"
)

var subcommands = []subcommand{
	{"check", "[-conf FILE] [-node]", "find faults in a Corefile, its manifests and, with -node, on this machine", runCheck},
	{"explain", "TARGET [-from IP|NAMESPACE/POD] [-namespace NS] [-o text|json] [-conf FILE]", "say whether a name, address or Service works, and why not", runExplain},
	{"rules", "[-diff] [-conf FILE] [-backend NAME] [-family 4|6] [-o text|json]", "print what kernelnat would program or, with -diff, change in this kernel", runRules},
	{"plan", "[-conf FILE] [-before PATH] [-o text|json] PATH...", "show what manifests would serve and program otherwise than today", runPlan},
	{"cleanup", "[-backend NAME]", "remove every rule that kernelnat ever wrote", runCleanup},
	{"demo", "[-no-shell]", "play a walk-through of ClusterIP Services on this machine", runDemo},
}

func main() {
	// iptables lives there, and the PATH of a user, of plain su and of cron lacks
	// it. At the end, so that nothing else is found elsewhere than before.
	os.Setenv("PATH", withSbin(os.Getenv("PATH")))
	if len(os.Args) > 1 {
		if s, ok := findSubcommand(os.Args[1]); ok {
			os.Exit(s.run(s.flags(), os.Args[2:]))
		}
	}
	// CoreDNS shows it beside its own version: -version, the first lines of the log, and
	// the label revision of coredns_build_info.
	coremain.GitCommit = "clusterip-" + ownVersion()
	flag.Usage = usage
	flag.Parse()
	if flag.NArg() > 0 {
		// CoreDNS would refuse it too, but does not know the subcommands.
		os.Exit(refuse(flag.Arg(0)))
	}
	if conf := flagValue("conf"); conf != "" && conf != "stdin" && flagValue("version") != "true" && flagValue("plugins") != "true" {
		if err := mustExist(conf); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	caddy.SetDefaultCaddyfileLoader("default", caddy.LoaderFunc(loadDefault))
	coremain.Run()
}

// flagValue returns that of one of CoreDNS's flags.
func flagValue(name string) string { return flag.Lookup(name).Value.String() }
