package status

import (
	"fmt"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// judge adds the steps and the verdict.
func (j *joiner) judge() {
	j.judgeSource()
	if j.Target.Name != "" {
		j.judgeName()
	}
	if j.Service != nil || j.Target.Name == "" {
		j.judgeService()
	}
	if j.Service != nil {
		j.judgeEndpoints()
	}
	if j.Service != nil && j.Service.Kind == cluster.KindClusterIP {
		j.judgeFrontends()
		j.judgeNAT()
	}
	j.out.Works = true
	for _, s := range j.out.Steps {
		if s.Condition == Wrong {
			j.out.Works, j.out.Verdict = false, fmt.Sprintf("%s does not work: %s.", j.Target.Text, s.Text)
			if j.unread {
				j.out.Verdict = fmt.Sprintf("It is not known whether %s works: %s.", j.Target.Text, s.Text)
			}
			return
		}
	}
	j.out.Verdict = j.praise()
	unseen := slices.ContainsFunc(j.out.Steps, func(s Step) bool { return s.Name == "kernel" && s.Condition == Unknown })
	if unseen && !j.Source.Live {
		j.out.Verdict = strings.Replace(j.out.Verdict, " works", " would work", 1) + " No process of this Corefile was asked, and the kernel has none of its rules or was not looked at."
	}
}

func (j *joiner) step(name string, c Condition, mend, format string, args ...any) {
	j.out.Steps = append(j.out.Steps, Step{Name: name, Condition: c, Text: fmt.Sprintf(format, args...), Mend: mend})
}

func (j *joiner) judgeSource() {
	switch {
	case !j.Source.Synced:
		j.step("source", Wrong, "see the log of the process for what it waits for", "%s has not been read yet, so nothing is answered", j.Source.Place)
	case j.Source.OutOfTouch:
		j.step("source", Notice, "", "%s is out of reach, so this is what was last known", j.Source.Place)
	}
}

// praise is the verdict where nothing is wrong.
func (j *joiner) praise() string {
	t := j.Target.Text
	s := j.Service
	switch {
	case s == nil:
		return fmt.Sprintf("%s works.", t)
	case j.Target.isAddress() && j.rank() == isEndpoint:
		return fmt.Sprintf("%s is an endpoint of Service %s, to which clients connect without NAT.", t, s.Name)
	case s.Kind == cluster.KindExternalName:
		return fmt.Sprintf("%s works: it is an alias of %s, which is looked up elsewhere.", t, s.ExternalName)
	case s.Kind == cluster.KindHeadless:
		n := len(cluster.Usable(s.Endpoints))
		if j.Target.Name != "" {
			if r := j.answerRecords(); len(r) == 1 {
				return fmt.Sprintf("%s works: it is %s, and clients connect to that endpoint without NAT.", t, r[0])
			}
		}
		return fmt.Sprintf("%s works: its name has the addresses of %s, which clients connect to without NAT.", t, plural(n, "endpoint", "endpoints"))
	}
	var ways []string
	for i := range j.Families {
		f := &j.Families[i]
		for k := range f.Plan.Granted.Frontends {
			front := &f.Plan.Granted.Frontends[k]
			if j.isFocus(front) && front.Verdict == plan.Forward {
				ways = append(ways, fmt.Sprintf("%s leads to %s", front.Key, plural(len(f.Plan.Granted.Pools[front.Pool].For(front.Local)), "endpoint", "endpoints")))
			}
		}
	}
	if len(ways) == 0 {
		return fmt.Sprintf("%s works, as far as is known here.", t)
	}
	return fmt.Sprintf("%s works: %s.", t, listed(ways, 3))
}

// answerRecords are the addresses of the name that answers.
func (j *joiner) answerRecords() (out []string) {
	for _, n := range j.Names {
		for _, r := range n.Records {
			if n.Answers && (r.Type == "A" || r.Type == "AAAA") {
				out = append(out, r.Data)
			}
		}
	}
	return out
}

// isFocus reports whether a frontend is among what the target is: of a name those at the
// ClusterIP, which names lead to.
func (j *joiner) isFocus(f *plan.Frontend) bool {
	t := &j.Target
	switch {
	case t.Name != "":
		return f.Kind == plan.ClusterIP
	case !t.isAddress():
		return true
	case j.rank() == isNodePort:
		return f.Kind == plan.NodePort && f.At.Port() == t.At.Port() && (t.Protocol == 0 || f.Protocol == t.Protocol)
	}
	return t.takes(f.At, f.Protocol)
}

// rank is what the target, an address, is to the Service.
func (j *joiner) rank() int { return rankOf(j.Target, j.Service, j.Here) }

// judgeService is about whether there is a Service at all, and one that may work.
func (j *joiner) judgeService() {
	const step = "service"
	t, s := &j.Target, j.Service
	switch {
	case s == nil && t.isAddress():
		j.noHolder()
		return
	case s == nil:
		j.noService(t.Service)
		return
	case s.Remembered && !j.Source.Live:
		j.unreadManifest(s.Name)
		return
	case s.Remembered:
		j.step(step, Wrong, "mend its manifest: coredns check names the place", "of Service %s only its addresses are known, from an earlier run, since its manifest cannot be read", s.Name)
		return
	case s.Proxy == cluster.NoProxy() && s.Kind == cluster.KindClusterIP:
		j.step(step, Wrong, "take the label service.kubernetes.io/headless off, or write clusterIP: None", "Service %s has the label service.kubernetes.io/headless, with which every proxy leaves its addresses alone", s.Name)
		return
	case s.Kind == cluster.KindClusterIP && len(s.ClusterIPs) == 0:
		j.step(step, Wrong, "free an address, or enlarge the range (service_cidr)", "Service %s has no ClusterIP: none could be allocated", s.Name)
		return
	case t.isAddress() && j.rank() == isOtherPort:
		var ports []string
		for _, p := range s.Ports {
			ports = append(ports, portText(p))
		}
		asked := fmt.Sprint(t.At.Port())
		if t.Protocol != 0 {
			asked += "/" + t.Protocol.String()
		}
		j.step(step, Wrong, fmt.Sprintf("ask for one of these, or add the port to Service %s", s.Name), "%s is Service %s, which has no port %s, but %s", t.At.Addr(), s.Name, asked, listed(ports, maxNear))
		return
	case t.isAddress() && j.rank() == isEndpoint:
		j.step(step, Notice, "", "%s is an endpoint of Service %s and no frontend: packets go there without NAT", t.At.Addr(), s.Name)
		return
	}
	j.step(step, OK, "", "Service %s, %s%s", s.Name, kindOf(s), ofAddresses(s))
}

func ofAddresses(s *cluster.Service) string {
	var all []string
	for _, ip := range s.ClusterIPs {
		all = append(all, ip.String())
	}
	if s.Kind == cluster.KindExternalName {
		all = []string{"of " + s.ExternalName}
	}
	if len(all) == 0 {
		return ""
	}
	return " " + strings.Join(all, ", ")
}

// noHolder is for an address that nobody has.
func (j *joiner) noHolder() {
	t := &j.Target
	if t.IsNodePort() {
		j.step("service", Wrong, "ask for one that a Service has (spec.ports[].nodePort)", "no Service has the NodePort %s", t.Text)
		return
	}
	for i := range j.Families {
		for _, r := range j.Families[i].NAT.Ranges {
			if r.Nobodys(t.At.Addr()) {
				j.step("service", Wrong, "ask for the Service by its name", "no Service has %s; it is in the range of ClusterIPs %s, so packets to it are refused", t.At.Addr(), r.CIDR)
				return
			}
		}
	}
	j.step("service", Wrong, "ask for the Service by its name, or look whose address it is", "no Service has %s, and it is no endpoint of any", t.At.Addr())
}

// unreadManifest is for a Service whose manifest cannot be read. A process that has read it
// before goes on with that, and was not asked.
func (j *joiner) unreadManifest(n cluster.ServiceName) {
	j.unread = true
	why := j.faultsOf(n)
	if len(why) == 0 {
		why = []string{"coredns check names the place"}
	}
	j.step(j.missingStep(), Wrong, "mend the manifest; to ask the process that runs, give its Corefile the directive admin", "the manifest of Service %s cannot be read, and a process that runs goes on with what it last read of it: %s", n, listed(why, maxNear))
}

// faultsOf are what keeps a Service from being read, or may, if none is known to.
func (j *joiner) faultsOf(n cluster.ServiceName) (texts []string) {
	for _, of := range []cluster.ServiceName{n, {}} {
		for _, f := range j.Faults {
			if f.Service == of {
				texts = append(texts, f.Text)
			}
		}
		if len(texts) > 0 {
			break
		}
	}
	return texts
}

// noService is for a Service that there is not: one in another namespace, or of another name.
func (j *joiner) noService(meant cluster.ServiceName) {
	if slices.ContainsFunc(j.Faults, func(f Fault) bool { return f.Service == meant }) {
		j.unreadManifest(meant)
		return
	}
	for _, n := range near(meant, j.All) {
		j.out.Near = append(j.out.Near, n.String())
	}
	var same []string
	for _, s := range j.All {
		if s.Name.Name == meant.Name {
			same = append(same, s.Name.Namespace)
		}
	}
	slices.Sort(same)
	text, in := fmt.Sprintf("there is no Service %s in namespace %s", meant.Name, meant.Namespace), ", but one in "
	if len(j.Namespaces) > 0 && !slices.Contains(j.Namespaces, meant.Namespace) {
		text, in = fmt.Sprintf("there is no namespace %s", meant.Namespace), ", and a Service "+meant.Name+" in "
		if n := nearText(meant.Namespace, j.Namespaces); n != "" && len(same) == 0 {
			text += fmt.Sprintf("; the nearest is %s", n)
		}
	}
	mend := fmt.Sprintf("create it, or ask for another: kubectl -n %s get services", meant.Namespace)
	if j.Source.Kind == FromManifests {
		mend = fmt.Sprintf("write its manifest into %s, or ask for another", j.Source.Place)
	}
	switch {
	case len(same) > 0:
		text += in + listed(same, maxNear)
		mend = fmt.Sprintf("ask for %s.%s", meant.Name, same[0])
		if j.Target.Name == "" {
			mend = fmt.Sprintf("ask for %s/%s", same[0], meant.Name)
		}
	case len(j.out.Near) > 0:
		text += fmt.Sprintf("; the nearest is %s", j.out.Near[0])
		mend = fmt.Sprintf("ask for %s", j.nearName())
	case len(j.Faults) > 0:
		if why := j.faultsOf(meant); len(why) > 0 {
			j.unread = true
			text += " in what can be read, but it may be in what cannot, with which a process that runs goes on as it was: " + listed(why, maxNear)
			mend = "mend that, or write its manifest"
		}
	}
	j.step(j.missingStep(), Wrong, mend, "%s", text)
}

// missingStep is the one that fails where there is no Service.
func (j *joiner) missingStep() string {
	if j.Target.Name != "" {
		return "name"
	}
	return "service"
}

// nearName is the nearest target in the form in which it was asked for.
func (j *joiner) nearName() string {
	if j.Target.Name == "" {
		return j.out.Near[0]
	}
	namespace, name, _ := strings.Cut(j.out.Near[0], "/")
	return name + "." + namespace
}
