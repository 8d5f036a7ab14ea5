package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/iptables"
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
	code := 0
	for _, family := range cluster.Families {
		backend, err := iptables.New(family, iptables.Options{})
		if err == nil {
			err = backend.Cleanup(ctx)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "cleanup: %v\n", err)
			code = 1
		}
	}
	if code != 0 {
		return code
	}
	fmt.Fprintln(os.Stderr, "No rule of kernelnat is left in iptables, nft and legacy variant, IPv4 and IPv6.")
	return 0
}
