package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/clusterip/clusterip/cluster"
)

// Cleanup implements kernelnat.Backend. It removes what this Backend and
// kube-proxy write, from both variants, and says so if it could not look at one.
func (b *Backend) Cleanup(ctx context.Context) error {
	var errs []error
	for _, v := range variants {
		if err := cleanup(ctx, v, b.family); err != nil {
			errs = append(errs, fmt.Errorf("remove %s rules of iptables-%s: %w", b.family, v, err))
		}
	}
	return errors.Join(errs...)
}

func cleanup(ctx context.Context, v variant, f cluster.Family) error {
	if f == cluster.IPv6 && !hasIPv6() {
		return nil
	}
	if v == legacy {
		// Where there are none, the tools need not be installed.
		if loaded, err := legacyLoaded(f); err != nil || !loaded {
			return err
		}
	}
	t, err := findTools(ctx, v, f)
	if err != nil {
		return err
	}
	have, err := t.read(ctx)
	if err != nil {
		return err
	}
	s := t.session(ctx, have.state)
	return errors.Join(have.err, s.clean())
}

// clean removes the jumps to our chains, then the chains of Services, then the
// others.
func (s *session) clean() error {
	var errs []error
	for _, table := range []string{tableFilter, tableNAT, tableMangle} {
		errs = append(errs, s.unlink(table))
		have := s.have.table(table)
		fixed := slices.DeleteFunc(slices.Clone(ownChains[table]), func(c string) bool {
			_, there := have.chains[c]
			return !there
		})
		for _, c := range fixed {
			s.open(table)
			s.script.declare(c)
		}
		s.commit()
		if table == tableNAT {
			s.removeServiceChains(nil)
		}
		s.remove(table, fixed)
		s.commit()
	}
	return errors.Join(append(errs, s.flush())...)
}

// unlink removes the rules of the built-in chains that lead to ours. It returns
// what keeps chains in use after that.
func (s *session) unlink(table string) error {
	var errs []error
	var others []use
	have := s.have.table(table)
	for _, u := range have.uses {
		if slices.Contains(builtinChains, u.from) {
			s.open(table)
			s.script.deleteRule(u.from, u.rule)
			continue
		}
		others = append(others, u)
		errs = append(errs, fmt.Errorf("chain %s of table %s is emptied but cannot be deleted while the rule %q uses it: delete that rule and run again",
			u.to, table, "-A "+u.from+" "+u.rule))
	}
	have.uses = others
	return errors.Join(errs...)
}
