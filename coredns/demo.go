package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/clusterip/clusterip/coredns/demo"
	"golang.org/x/term"
)

// runDemo plays the ClusterIP walk-through on this machine; see package demo.
func runDemo(flags *flag.FlagSet, args []string) int {
	noShell := flags.Bool("no-shell", false, "end after the last step instead of opening a shell in the client pod")
	if code, ok := parseFlags(flags, args); !ok {
		return code
	}
	executable, err := os.Executable()
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: find the own program: %v\n", err)
		return 1
	}
	// SIGPIPE too: a reader that went away must not keep the demo from cleaning up.
	ctx, cancel := signal.NotifyContext(context.Background(),
		os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer cancel()
	err = demo.Run(ctx, demo.Options{
		Executable: executable,
		Out:        os.Stdout,
		Color:      term.IsTerminal(int(os.Stdout.Fd())) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
		Shell:      !*noShell,
	})
	if err != nil {
		fmt.Fprintf(os.Stderr, "demo: %v\n", err)
		return 1
	}
	return 0
}
