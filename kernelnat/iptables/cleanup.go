package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
)

// Cleanup implements kernelnat.Backend. It removes what this Backend and
// kube-proxy write, from both variants and from nf_tables itself, and says so if
// it could not look at one.
func (b *Backend) Cleanup(ctx context.Context) error {
	var errs []error
	if _, err := netfilter.RemoveProxyTable(b.Family, b.ledger); err != nil {
		errs = append(errs, err)
	}
	for _, v := range variants {
		unguarded, err := b.cleanup(ctx, v)
		if err == nil && unguarded && !b.settings.KeepLocalnet {
			// With the guard goes what it guards against.
			err = netfilter.SetRouteLocalnet(false)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("remove %s rules of iptables-%s: %w", b.Family, v, err))
		}
	}
	return errors.Join(errs...)
}

// Guards reports whether rules of this kind keep others out of 127.0.0.0/8, ours or
// kube-proxy's, and so depend on route_localnet.
func Guards(ctx context.Context) bool {
	for _, v := range variants {
		t, err := findTools(ctx, v, cluster.IPv4)
		if err != nil {
			continue
		}
		have, err := t.read(ctx)
		if err == nil && slices.Contains(have.state.table(tableFilter).shared[chainFirewall], loopbackRule) {
			return true
		}
	}
	return false
}

// cleanup removes what is ours in one variant. unguarded says that the guard of
// loopback was there and is gone.
func (b *Backend) cleanup(ctx context.Context, v variant) (unguarded bool, err error) {
	f := b.Family
	if f == cluster.IPv6 && !hasIPv6() {
		return false, nil
	}
	if v == legacy {
		// Where there are none, the tools need not be installed.
		if loaded, err := legacyLoaded(f); err != nil || !loaded {
			return false, err
		}
	}
	t, err := findTools(ctx, v, f)
	if err != nil {
		return false, err
	}
	have, err := t.read(ctx)
	if err != nil {
		return false, err
	}
	s := session{have: have.state, chains: v.chains(), send: func(input []byte) error { return b.write(ctx, t, input) }}
	return s.guarded(have.hinted), errors.Join(have.err, s.clean(have.hinted))
}

// clean removes the jumps to our chains, then the chains of Services, then the
// others. KUBE-FIREWALL is ours alone where there is no kubelet and it holds
// nothing but our rule.
func (s *session) clean(kubelet bool) error {
	var errs []error
	guarded := s.guarded(kubelet)
	for _, table := range []string{tableFilter, tableNAT, tableMangle} {
		errs = append(errs, s.unlink(table, guarded))
		have := s.have.table(table)
		fixed := slices.DeleteFunc(slices.Concat(ownChains[table], proxyIPVSChains[table]), func(c string) bool {
			_, there := have.chains[c]
			return !there
		})
		if table == tableFilter && guarded {
			fixed = append(fixed, chainFirewall)
		}
		for _, c := range fixed {
			s.open(table)
			s.script.declare(c)
		}
		s.commit()
		s.removeChains(table, func(string) bool { return false })
		s.remove(table, fixed)
		s.commit()
	}
	return errors.Join(append(errs, s.flush())...)
}

func (s *session) guarded(kubelet bool) bool {
	return !kubelet && slices.Equal(s.have.table(tableFilter).shared[chainFirewall], []string{loopbackRule})
}

// unlink removes the rules of the built-in chains that lead to ours, and to
// KUBE-FIREWALL if that goes too. It returns what keeps chains in use after that.
func (s *session) unlink(table string, guard bool) error {
	var errs []error
	var others []use
	have := s.have.table(table)
	for _, u := range have.uses {
		if u.to == chainFirewall && !guard {
			continue
		}
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
