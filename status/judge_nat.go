package status

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// judgeFrontends is about what the Service does not get, and about the client.
func (j *joiner) judgeFrontends() {
	const step = "frontend"
	for i := range j.Families {
		f := &j.Families[i]
		refused := 0
		for k := range f.Plan.Asked.Frontends {
			front := &f.Plan.Asked.Frontends[k]
			r := f.Plan.refusal(front.Key)
			if r == nil {
				continue
			}
			if refused++; refused > maxNear {
				continue
			}
			condition := Notice
			if j.isFocus(front) {
				condition = Wrong
			}
			j.step(step, condition, mendRefusal(r, j.name()), "%s does not get %s: %s", j.name(), r.Key, r)
		}
		if n := refused - maxNear; n > 0 {
			j.step(step, Notice, "", "%s does not get %d more frontends in %s", j.name(), n, f.Family)
		}
		if e := f.Plan.Asked.Excess; e != "" {
			j.step(step, Notice, "", "%s: %s", f.Family, e)
		}
		j.judgeClient(f)
	}
}

func mendRefusal(r *plan.Refusal, n cluster.ServiceName) string {
	what := fmt.Sprintf("give Service %s another address", n)
	if r.At.Addr().IsUnspecified() {
		what = fmt.Sprintf("give Service %s another nodePort", n)
	}
	if r.Why == plan.IsHeld {
		return fmt.Sprintf("%s, or take it from %s", what, r.Holder)
	}
	return what
}

func (j *joiner) judgeClient(f *FamilyFacts) {
	if j.From == nil {
		return
	}
	if cluster.FamilyOf(j.From.Address) != f.Family {
		return
	}
	for k := range f.Plan.Granted.Frontends {
		front := &f.Plan.Granted.Frontends[k]
		if front.Verdict != plan.Forward || admits(front, j.From.Address) {
			continue
		}
		condition := Notice
		if j.Target.isAddress() && j.isFocus(front) {
			condition = Wrong
		}
		j.step("frontend", condition, fmt.Sprintf("add %s to spec.loadBalancerSourceRanges of Service %s", netip.PrefixFrom(j.From.Address, j.From.Address.BitLen()), j.name()),
			"%s drops connections from %s, which is in none of loadBalancerSourceRanges", front.Key, j.From.Address)
	}
}

// judgeNAT is about whether the kernel does what is planned.
func (j *joiner) judgeNAT() {
	if j.NoNAT != "" {
		j.step("nat", Unknown, "", "%s", j.NoNAT)
		return
	}
	for i := range j.Families {
		j.judgeFamily(&j.Families[i])
	}
}

func (j *joiner) judgeFamily(f *FamilyFacts) {
	waiting := j.waiting(f)
	log := "see the log of the process"
	switch {
	case f.DryRun:
		j.step("nat", Notice, "take dry_run out of the Corefile to have rules written", "%s: dry_run is set, so nothing is written to the kernel", f.Family)
		return
	case f.NAT.Error != "":
		j.step("nat", Wrong, log, "%s: the last write to the kernel failed: %s", f.Family, f.NAT.Error)
	case waiting != "":
		j.step("nat", Wrong, log, "%s: the rules of %s wait: %s", f.Family, j.name(), waiting)
	}
	if f.Kernel == nil {
		text := "the kernel was not looked at: " + f.WhyNot
		if f.Empty {
			text = f.WhyNot
		}
		j.step("kernel", Unknown, "", "%s: %s", f.Family, text)
		return
	}
	wrong := slices.Clone(f.Kernel.Wrong)
	for k, held := range f.Kernel.Frontends {
		if j.isFocus(&f.Plan.Granted.Frontends[k]) {
			wrong = append(wrong, held.Wrong...)
		}
	}
	for _, o := range f.Kernel.Others {
		j.step("kernel", Wrong, "stop kube-proxy here, and remove what it has left: kube-proxy --cleanup", "%s: %s", f.Family, o)
	}
	j.judgePassage(f)
	switch {
	case len(wrong) == 0:
		j.step("kernel", OK, "", "%s: the kernel holds what is planned (%s)", f.Family, f.Backend)
	case f.Pending:
		j.step("kernel", Notice, "", "%s: changes are being written: %s", f.Family, listed(wrong, 3))
	default:
		mend := "start coredns, which writes what is missing"
		if j.Source.Live {
			mend = "it is repaired within sync_period; if it comes again, find who changes our rules: the log names them"
		}
		j.step("kernel", Wrong, mend, "%s: the kernel does not hold what is planned: %s", f.Family, listed(wrong, 3))
	}
}

// judgePassage is about what becomes of packets after their translation.
func (j *joiner) judgePassage(f *FamilyFacts) {
	const inside = "connections of this machine itself are not concerned"
	if sysctl := f.Kernel.ForwardingOff; sysctl != "" {
		j.step("kernel", Notice, fmt.Sprintf("sysctl -w %s=1, if pods or other machines are clients", sysctl), "%s: this machine forwards nothing (%s is 0); %s", f.Family, sysctl, inside)
	}
	for _, chain := range f.Kernel.ForwardDrops {
		j.step("kernel", Notice, "have it accept packets to and from the endpoints, if pods or other machines are clients", "%s: %s drops what is forwarded, unless a rule there accepts it; %s", f.Family, chain, inside)
	}
	for _, chain := range f.Kernel.InputDrops {
		j.step("kernel", Notice, fmt.Sprintf("have it accept packets to %s", f.Kernel.Entry), "%s: %s drops what comes to this machine, unless a rule there accepts it; the first packets of connections pass it", f.Family, chain)
	}
	var without []string
	why := ""
	for _, addr := range slices.SortedFunc(maps.Keys(f.Kernel.Unrouted), netip.Addr.Compare) {
		without, why = append(without, addr.String()), f.Kernel.Unrouted[addr]
	}
	if len(without) > 0 {
		j.step("kernel", Wrong, "correct the addresses, or add a route: ip route add "+without[0]+" via GATEWAY", "%s: no route of this machine leads to endpoints (%s), so the connections that they get fail: %s", f.Family, why, listed(without, 3))
	}
	var silent []string
	for _, e := range f.Kernel.Silent {
		silent = append(silent, e.String())
	}
	if len(silent) > 0 {
		j.step("kernel", Wrong, fmt.Sprintf("start the process, have it listen at %s or at all addresses, or correct the port", f.Kernel.Silent[0].At.Addr()),
			"%s: nobody listens at endpoints that are this machine's own addresses, so the connections that they get are refused: %s", f.Family, listed(silent, 3))
	}
}
