// Command coredns is CoreDNS with the plugins clusterip and kernelnat. Its first
// argument may be one of the subcommands below; everything else is CoreDNS.
package main

import (
	"os"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/coremain"
)

// subcommands return the exit code: 0 all well, 1 found a problem, 2 wrong usage.
// Data goes to stdout, talk to stderr.
var subcommands = map[string]func(args []string) int{
	"check":   runCheck,
	"cleanup": runCleanup,
	"demo":    runDemo,
	"rules":   runRules,
}

func main() {
	if len(os.Args) > 1 {
		// First, since CoreDNS refuses positional arguments.
		if run, ok := subcommands[os.Args[1]]; ok {
			os.Exit(run(os.Args[2:]))
		}
	}
	caddy.SetDefaultCaddyfileLoader("default", caddy.LoaderFunc(defaultCorefile))
	coremain.Run()
}
