package preflight

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

func unseen(_ *NAT, m Machine) (all []Finding) {
	for _, err := range m.Unseen {
		all = append(all, Finding{Here, fmt.Sprintf("it could not be seen whether all is well: %v", err), "mend that, or run this as root", true})
	}
	return all
}

func privileges(n *NAT, m Machine) []Finding {
	lacks := slices.DeleteFunc(slices.Clone(m.Lacks), func(name string) bool { return name == "CAP_NET_RAW" && n.Backend != "iptables" })
	if len(lacks) == 0 {
		return nil
	}
	return []Finding{{n.Place(), fmt.Sprintf("this process lacks %s: kernelnat would write no rules, and what others have written could not be looked at", strings.Join(lacks, " and ")),
		"run this, and the server, as root or with these capabilities, or set dry_run", true}}
}

// writers says who else writes rules for Services.
func writers(n *NAT, m Machine) (all []Finding) {
	for i := range m.Proxies {
		all = append(all, Finding{Here, fmt.Sprintf("%s runs here, and each undoes what the other writes", &m.Proxies[i]),
			"stop it before kernelnat starts; its rules stay, and are taken over without a gap", true})
	}
	if m.Running != nil {
		return append(all, Finding{n.Place(), fmt.Sprintf("kernelnat runs here already, in %s, and NAT of another one waits until that ends", m.Running),
			"all is well if that one is to be reloaded or replaced; stop it if not", false})
	}
	var left []string
	for _, t := range m.ProxyTables {
		left = append(left, "the table "+t+" of nf_tables")
	}
	for _, v := range m.IPTables.Own {
		left = append(left, "chains KUBE-SERVICES of iptables-"+v)
	}
	if len(left) > 0 && len(m.Proxies) == 0 {
		all = append(all, Finding{Here, fmt.Sprintf("there are rules of kube-proxy, or of an earlier run: %s", strings.Join(left, ", ")),
			"kernelnat takes them over when it starts; if a kube-proxy still writes them, as one within k3s does, stop that first", false})
	}
	return all
}

// backend says whether the kernel and the tools have what the backend needs. What cannot be
// tried for want of a privilege is said by privileges.
func backend(n *NAT, m Machine) (all []Finding) {
	for _, missing := range m.Missing {
		all = append(all, Finding{n.Place("ipvs_scheduler", "backend"), missing.Error() + ", so connections of who asks for it go to random endpoints",
			"load the module, or choose another policy", false})
	}
	if m.Backend == nil || len(m.Lacks) > 0 {
		return all
	}
	mend := "load the modules of nf_tables, or choose backend iptables"
	switch n.Backend {
	case "iptables":
		mend = "mend that, or choose backend nftables"
	case "ipvs":
		mend = "load the modules, or choose another backend"
	}
	what := m.Backend.Error()
	if joined, ok := m.Backend.(interface{ Unwrap() []error }); ok {
		what = strings.ReplaceAll(errors.Join(joined.Unwrap()...).Error(), "\n", "; ")
	}
	return append(all, Finding{n.Place("backend"), fmt.Sprintf("backend %s cannot be used here: %s", n.Backend, what), mend, true})
}

// variants says where both variants of iptables have rules of others: packets pass both.
func variants(n *NAT, m Machine) []Finding {
	other := map[string]string{"nft": "legacy", "legacy": "nft"}[m.IPTables.Uses]
	if other == "" || m.IPTables.Foreign[other] == 0 {
		return nil
	}
	what := fmt.Sprintf("iptables-%s has %d rules, while iptables-%s is in use here: packets pass both, and what one accepts the other may drop", other, m.IPTables.Foreign[other], m.IPTables.Uses)
	if n.Backend == "iptables" {
		what += fmt.Sprintf("; kernelnat writes to iptables-%s", m.IPTables.Uses)
	}
	return []Finding{{Here, what, fmt.Sprintf("have all programs use one variant (update-alternatives --config iptables), and remove the rules of the other: iptables-%s-save shows them", other), false}}
}
