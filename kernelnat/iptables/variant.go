package iptables

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"

	"github.com/clusterip/clusterip/cluster"
)

// detect finds out which variant the host uses, as the iptables-wrappers of
// Kubernetes do: the one in which the kubelet has left its mark, or else the one
// with more rules, or else nft. It passes over what is not installed, what the
// kernel does not support, and what may not be looked at.
func detect(ctx context.Context) (variant, error) { return detectBy(ctx, survey) }

// detectBy is detect for which somebody else reads.
func detectBy(ctx context.Context, survey func(context.Context, variant, cluster.Family) (*parser, error)) (variant, error) {
	var best variant
	var most int
	var unusable []error
	for _, v := range variants {
		rules, usable := 0, false
		for _, f := range cluster.Families {
			p, err := survey(ctx, v, f)
			switch {
			case Absent(err):
				unusable = append(unusable, err)
				continue
			case err != nil:
				return "", err
			case p.hinted:
				return v, nil
			}
			usable = true
			rules += p.rules
		}
		if usable && (best == "" || rules > most) {
			best, most = v, rules
		}
	}
	if best == "" {
		return "", unusable[0]
	}
	return best, nil
}

// Absent reports whether an error says that a variant cannot be there, or at least
// not be looked at: the list of legacy tables is for root alone to read.
func Absent(err error) bool {
	return errors.Is(err, exec.ErrNotFound) || errors.Is(err, errOtherVariant) || errors.Is(err, errUnsupported) || errors.Is(err, fs.ErrPermission)
}

func survey(ctx context.Context, v variant, f cluster.Family) (*parser, error) {
	t, err := findTools(ctx, v, f)
	if err != nil {
		return nil, err
	}
	return t.read(ctx)
}

// legacyLoaded reports whether there is any table of the legacy variant. The
// tools are no way to find out: a table comes into being when they look at it.
func legacyLoaded(f cluster.Family) (bool, error) {
	file := "ip_tables_names"
	if f == cluster.IPv6 {
		file = "ip6_tables_names"
	}
	// Not /proc/net: that shows the namespace of the first thread.
	names, err := os.ReadFile("/proc/thread-self/net/" + file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look for legacy tables: %w", err)
	}
	return len(names) > 0, nil
}

// hasIPv6 reports whether the kernel speaks IPv6.
func hasIPv6() bool {
	_, err := os.Stat("/proc/thread-self/net/if_inet6")
	return err == nil
}
