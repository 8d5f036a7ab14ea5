package iptables

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
)

// Drift returns what the Sync of a process that starts now would write of each family: what is
// different of the chains that it would send to iptables-restore. It writes nothing to the kernel.
func Drift(ctx context.Context, states map[cluster.Family]kernelnat.State, settings netfilter.Settings) (map[cluster.Family][]status.Drift, error) {
	s := surveys{of: make(map[surveyed]*saved)}
	v, err := detectBy(ctx, s.survey)
	if err != nil {
		return nil, err
	}
	out := make(map[cluster.Family][]status.Drift)
	for family, state := range states {
		out[family], err = s.drift(ctx, v, family, state, settings)
		needed := slices.ContainsFunc(state.Services, func(s plan.Service) bool { return len(s.Frontends) > 0 })
		if Absent(err) && !needed && family == cluster.IPv6 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s rules: %w", family, err)
		}
	}
	return out, nil
}

// surveys are what iptables-save has printed, each once: of large tables it takes seconds.
type surveys struct{ of map[surveyed]*saved }

type surveyed struct {
	variant variant
	family  cluster.Family
}

type saved struct {
	tools  *tools
	parser *parser
	text   bytes.Buffer
	err    error
}

func (s *surveys) read(ctx context.Context, v variant, f cluster.Family) *saved {
	key := surveyed{v, f}
	if s.of[key] == nil {
		out := &saved{parser: &parser{state: state{}}}
		if out.tools, out.err = findTools(ctx, v, f); out.err == nil {
			out.err = out.tools.saved(ctx, io.MultiWriter(out.parser, &out.text))
		}
		s.of[key] = out
	}
	return s.of[key]
}

func (s *surveys) survey(ctx context.Context, v variant, f cluster.Family) (*parser, error) {
	out := s.read(ctx, v, f)
	return out.parser, out.err
}

// drift is that of one family, by one variant.
func (s *surveys) drift(ctx context.Context, v variant, family cluster.Family, to kernelnat.State, settings netfilter.Settings) ([]status.Drift, error) {
	if family == cluster.IPv6 && !hasIPv6() {
		return nil, fmt.Errorf("IPv6: %w: enable it, or use IPv4 only", errUnsupported)
	}
	have := s.read(ctx, v, family)
	if err := cmp.Or(have.err, have.parser.err); err != nil {
		return nil, err
	}
	d, err := dialectOf(family, settings, to)
	if err != nil {
		return nil, err
	}
	d.randomFully, d.localhost = have.tools.version.hasRandomFully(), d.localhost && netfilter.MayRouteLocalnet()
	to.Services = v.able(to.Services)
	var sent bytes.Buffer
	sync := session{have: have.parser.state, chains: v.chains(), send: func(input []byte) error {
		_, err := sent.Write(input)
		return err
	}}
	a, err := sync.sync(ctx, to, d, unknown(to))
	if err == nil {
		err = sync.sendLarge(a)
	}
	if err != nil {
		return nil, err
	}
	out := driftBy(have.text.Bytes(), sent.Bytes())
	if to.Incomplete {
		return out, nil
	}
	left, err := left(family, func(v variant) (*parser, error) { return s.survey(ctx, v, family) }, v.other())
	return append(left, out...), err
}

// Left returns, as Drift does, what Cleanup would remove.
func Left(ctx context.Context, family cluster.Family) ([]status.Drift, error) {
	return left(family, func(v variant) (*parser, error) { return survey(ctx, v, family) }, variants...)
}

// left are the chains of some variants, and the table of kube-proxy's other mode.
func left(family cluster.Family, survey func(variant) (*parser, error), of ...variant) (out []status.Drift, err error) {
	if there, err := netfilter.HasProxyTable(family); err != nil {
		return nil, err
	} else if there {
		out = append(out, status.Drift{Change: status.DriftRemove, Text: "table " + ipOf(family) + " " + netfilter.ProxyTable, Of: "kube-proxy's, in its nftables mode"})
	}
	for _, v := range of {
		p, err := survey(v)
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
