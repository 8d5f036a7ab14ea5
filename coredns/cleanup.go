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

// runCleanup removes all rules that kernelnat ever writes, or those of one backend. It needs
// no running instance and no Corefile.
func runCleanup(flags *flag.FlagSet, args []string) int {
	var only []backends.Backend
	flags.Func("backend", "`name` of the backend whose rules to remove: "+backends.Written()+" (default: all)", func(name string) error {
		b, err := backends.Find(name)
		if err != nil {
			err = fmt.Errorf("%q is not available in this version: use %s", name, backends.Written())
		} else if name != b.Name {
			err = fmt.Errorf("%q writes nothing itself: use %s", name, backends.Written())
		}
		only = []backends.Backend{b}
		return err
	})
	if code, ok := parseFlags(flags, args); !ok {
		return code
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	lock, err := kernelnat.Lock()
	if err != nil {
		fmt.Fprintf(os.Stderr, "cleanup: %v, it would write its rules again; ss -xlp | grep clusterip/kernelnat names it\n", err)
		return 1
	}
	defer lock.Close()
	if err := backends.Cleanup(ctx, only...); err != nil {
		fmt.Fprintf(os.Stderr, "cleanup: %v\n", err)
		return 1
	}
	fmt.Fprintf(os.Stderr, "No rule of kernelnat is left in %s, IPv4 and IPv6.\n", backends.Places(only...))
	return 0
}
