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
	j.judgeMood()
}

// judgeMood has the verdict say that a Service would work, where nothing is written or nobody
// knows.
func (j *joiner) judgeMood() {
	would := strings.Replace(j.out.Verdict, " works", " would work", 1)
	dry := slices.ContainsFunc(j.Families, func(f FamilyFacts) bool { return f.DryRun })
	unseen := slices.IndexFunc(j.out.Steps, func(s Step) bool { return s.Name == "kernel" && s.Condition == Unknown })
	switch {
	case dry && would != j.out.Verdict: // what leads there without NAT works in any case
		j.out.Verdict = strings.TrimSuffix(would, ".") + "; dry_run is set, so nothing is written to the kernel."
	case unseen >= 0 && !j.Source.Live:
		j.out.Verdict = fmt.Sprintf("%s No process of this Corefile was asked. %s.", would, j.out.Steps[unseen].Text)
	case j.Target.Name != "" && !j.Source.Live && slices.ContainsFunc(j.Families, func(f FamilyFacts) bool { return f.Kernel != nil }):
		j.out.Verdict = would + " No process of this Corefile was asked, which is to answer for the name."
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
		return f.Kind == plan.ClusterIP && t.hasPort(f.At.Port(), f.Protocol)
	case !t.isAddress():
		return t.Port == 0 || f.Kind != plan.NodePort && t.hasPort(f.At.Port(), f.Protocol)
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
		j.step(step, Wrong, "mend the manifest", "of Service %s only its addresses are known, from an earlier run, since its manifest cannot be read: %s", s.Name, j.whyUnread(s.Name))
		return
	case s.Proxy == cluster.NoProxy() && s.Kind == cluster.KindClusterIP:
		j.step(step, Wrong, "take the label service.kubernetes.io/headless off, or write clusterIP: None", "Service %s has the label service.kubernetes.io/headless, with which every proxy leaves its addresses alone", s.Name)
		return
	case s.Kind == cluster.KindClusterIP && len(s.ClusterIPs) == 0:
		j.noClusterIP()
		return
	case t.isAddress() && j.rank() == isOtherPort:
		j.noPort(t.At.Port(), fmt.Sprintf("%s is Service %s, which", t.At.Addr(), s.Name))
		return
	case t.Port != 0 && s.Kind == cluster.KindClusterIP && !slices.ContainsFunc(s.Ports, func(p cluster.Port) bool { return t.hasPort(p.Port, p.Protocol) }):
		j.noPort(t.Port, fmt.Sprintf("Service %s", s.Name))
		return
	case t.isAddress() && j.rank() == isEndpoint:
		j.step(step, Notice, "", "%s is an endpoint of Service %s and no frontend: packets go there without NAT", t.At.Addr(), s.Name)
		return
	}
	j.step(step, OK, "", "Service %s, %s%s", s.Name, kindOf(s), ofAddresses(s))
	if slices.ContainsFunc(j.Faults, func(f Fault) bool { return f.Service == s.Name }) {
		j.step(step, Notice, "mend the manifest", "not all that the manifest of Service %s says is in force: %s", s.Name, j.whyUnread(s.Name))
	}
}

// noPort is for a port that the Service does not have.
func (j *joiner) noPort(number uint16, who string) {
	var ports []string
	for _, p := range j.Service.Ports {
		ports = append(ports, portText(p))
	}
	asked := fmt.Sprint(number)
	if j.Target.Protocol != 0 {
		asked += "/" + j.Target.Protocol.String()
	}
	j.step("service", Wrong, fmt.Sprintf("ask for one of these, or add the port to Service %s", j.name()), "%s has no port %s, but %s", who, asked, listed(ports, maxNear))
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
	j.step(j.missingStep(), Wrong, "mend the manifest; to ask the process that runs, give its Corefile the directive admin", "the manifest of Service %s cannot be read, and a process that runs goes on with what it last read of it: %s", n, j.whyUnread(n))
}

// whyUnread is what keeps a Service from being read, in words.
func (j *joiner) whyUnread(n cluster.ServiceName) string {
	if why := j.faultsOf(n); len(why) > 0 {
		return listed(why, maxNear)
	}
	return "coredns check names the place"
}

// noClusterIP is for a Service that got no address: its manifest asks for one that it cannot
// have, as when service_cidr is another, or there is none left.
func (j *joiner) noClusterIP() {
	n := j.name()
	var why []string
	for _, f := range j.Faults {
		if f.Service == n || f.Option != "" {
			why = append(why, f.Text)
		}
	}
	if len(why) == 0 {
		j.step("service", Wrong, "free an address, or enlarge the range (service_cidr)", "Service %s has no ClusterIP: none could be allocated", n)
		return
	}
	j.step("service", Wrong, "mend the manifest, or service_cidr in the Corefile", "Service %s has no ClusterIP: %s", n, listed(why, maxNear))
}

// faultsOf are what keeps a Service from being read, or may, if none is known to.
func (j *joiner) faultsOf(n cluster.ServiceName) (texts []string) {
	for _, of := range []cluster.ServiceName{n, {}} {
		for _, f := range j.Faults {
			if f.Service == of && f.Option == "" {
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
		if j.Source.Live {
			j.step(j.missingStep(), Wrong, "mend the manifest", "there is no Service %s, since its manifest cannot be read: %s", meant, j.whyUnread(meant))
			return
		}
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
		text, in = fmt.Sprintf("there is no namespace %s", meant.Namespace), ", but Service "+meant.Name+" is in "
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
			text += " in what can be read, but it may be in what cannot"
			if j.unread = !j.Source.Live; j.unread {
				text += ", with which a process that runs goes on as it was"
			}
			text += ": " + listed(why, maxNear)
			mend = "mend that, or write its manifest"
		}
	}
	j.step(j.missingStep(), Wrong, mend, "%s", text)
}

// servicesIn are some of the Services of a namespace.
func (j *joiner) servicesIn(namespace string) (names []string) {
	for _, s := range j.All {
		if s.Name.Namespace == namespace {
			names = append(names, s.Name.String())
		}
	}
	slices.Sort(names)
	return names[:min(len(names), maxNear)]
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
