package iptables

import (
	"context"
	"fmt"

	"github.com/clusterip/clusterip/cluster"
)

// Found is what there is of iptables on a machine.
type Found struct {
	Uses string // the variant that a Backend takes here; "" if it can have none
	// Foreign are the rules that are none of ours or of kube-proxy's, and Own says whether
	// there are any of those, by variant.
	Foreign map[string]int
	Own     map[string]bool
}

// Presence returns what there is of both families, and changes nothing. The error says why no
// Backend can be had.
func Presence(ctx context.Context) (Found, error) {
	found := Found{Foreign: make(map[string]int), Own: make(map[string]bool)}
	for _, v := range variants {
		for _, f := range cluster.Families {
			p, err := survey(ctx, v, f)
			if err != nil {
				continue // detect says it, if it matters
			}
			found.Foreign[string(v)] += p.foreign
			if _, ours := p.state.table(tableNAT).chains[chainServices]; ours {
				found.Own[string(v)] = true
			}
		}
	}
	v, err := detect(ctx)
	if err != nil {
		return found, err
	}
	found.Uses = string(v)
	// IPv6 may be missing as long as nobody needs it.
	if _, err := findTools(ctx, v, cluster.IPv4); err != nil {
		return found, fmt.Errorf("iptables-%s: %w", v, err)
	}
	return found, nil
}

// Probe returns an error that says why no Backend can be had here, or nil. It changes nothing.
func Probe(ctx context.Context) error {
	_, err := Presence(ctx)
	return err
}
