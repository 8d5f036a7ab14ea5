package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/backends"
)

const cleanupTimeout = 2 * time.Minute

// runCleanup removes all rules that kernelnat ever writes. It needs no running
// instance and no Corefile.
func runCleanup(flags *flag.FlagSet, args []string) int {
	if code, ok := parseFlags(flags, args); !ok {
		return code
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	lock, err := kernelnat.Lock()
	if err != nil {
		fmt.Fprintf(os.Stderr, "cleanup: %v, it would write its rules again\n", err)
		return 1
	}
	defer lock.Close()
	if err := backends.Cleanup(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "cleanup: %v\n", err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "No rule of kernelnat is left in %s, IPv4 and IPv6.\n", backends.Places())
	return 0
}
