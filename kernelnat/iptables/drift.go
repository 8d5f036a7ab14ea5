package iptables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
)

// Drift returns what the Sync of a process that starts now would write: what is different of the
// chains that it would send to iptables-restore. It writes nothing to the kernel.
func Drift(ctx context.Context, family cluster.Family, state kernelnat.State, settings netfilter.Settings) ([]status.Drift, error) {
	out, err := drift(ctx, family, state, settings)
	needed := slices.ContainsFunc(state.Services, func(s plan.Service) bool { return len(s.Frontends) > 0 })
	if Absent(err) && !needed && family == cluster.IPv6 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read %s rules: %w", family, err)
	}
	return out, nil
}

func drift(ctx context.Context, family cluster.Family, to kernelnat.State, settings netfilter.Settings) ([]status.Drift, error) {
	if family == cluster.IPv6 && !hasIPv6() {
		return nil, fmt.Errorf("IPv6: %w: enable it, or use IPv4 only", errUnsupported)
	}
	v, err := detect(ctx)
	if err != nil {
		return nil, err
	}
	t, err := findTools(ctx, v, family)
	if err != nil {
		return nil, err
	}
	var saved, sent bytes.Buffer
	have := &parser{state: state{}}
	if err := errors.Join(t.saved(ctx, io.MultiWriter(have, &saved)), have.err); err != nil {
		return nil, err
	}
	d, err := dialectOf(family, settings, to)
	if err != nil {
		return nil, err
	}
	d.randomFully, d.localhost = t.version.hasRandomFully(), d.localhost && netfilter.MayRouteLocalnet()
	to.Services = v.able(to.Services)
	s := session{have: have.state, chains: v.chains(), send: func(input []byte) error {
		_, err := sent.Write(input)
		return err
	}}
	a, err := s.sync(ctx, to, d, unknown(to))
	if err == nil {
		err = s.sendLarge(a)
	}
	if err != nil {
		return nil, err
	}
	out := driftBy(saved.Bytes(), sent.Bytes())
	if to.Incomplete {
		return out, nil
	}
	left, err := left(ctx, family, v.other())
	return append(left, out...), err
}

// Left returns, as Drift does, what Cleanup would remove.
func Left(ctx context.Context, family cluster.Family) ([]status.Drift, error) {
	return left(ctx, family, variants...)
}

// left are the chains of some variants, and the table of kube-proxy's other mode.
func left(ctx context.Context, family cluster.Family, of ...variant) (out []status.Drift, err error) {
	if there, err := netfilter.HasProxyTable(family); err != nil {
		return nil, err
	} else if there {
		out = append(out, status.Drift{Change: status.DriftRemove, Text: "table " + ipOf(family) + " " + netfilter.ProxyTable, Of: "kube-proxy's, in its nftables mode"})
	}
	for _, v := range of {
		p, err := survey(ctx, v, family)
		if Absent(err) {
			continue
		} else if err != nil {
			return out, err
		}
		for _, table := range []string{tableFilter, tableMangle, tableNAT} {
			if n := len(p.state.table(table).chains); n > 0 {
				out = append(out, status.Drift{
					Change: status.DriftRemove, Text: fmt.Sprintf("%s-%s -t %s: %d chains and what leads to them", command(family), v, table, n),
					Of: "kube-proxy's, or of the backend iptables",
				})
			}
		}
	}
	return out, nil
}

func ipOf(family cluster.Family) string {
	if family == cluster.IPv6 {
		return "ip6"
	}
	return "ip"
}
