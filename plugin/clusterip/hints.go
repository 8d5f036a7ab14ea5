package clusterip

import (
	"errors"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/status"
)

// HintsOf are what a folder says of a Service.
func HintsOf(problems []manifest.Problem, n cluster.ServiceName) (hints []status.Hint) {
	for _, p := range problems {
		if p.Object != "Service "+n.String() {
			continue
		}
		h := status.Hint{Text: p.Err.Error()}
		if lacks, is := errors.AsType[*manifest.NoEndpoint](p.Err); is {
			h.Text, h.Lacks, h.NoEndpoint = lacks.What+": "+lacks.Lacks, lacks.Lacks, lacks.Mend
		}
		hints = append(hints, h)
	}
	return hints
}

// FaultsOf are the errors of a folder but those about its state file: what keeps a Service
// from being read, and what may hold any.
func FaultsOf(problems []manifest.Problem, state string) (faults []status.Fault) {
	for _, p := range problems {
		kind, name, _ := strings.Cut(p.Object, " ")
		may := kind == "" || kind == "Service" || kind == "object" // whose kind is missing
		if p.Severity != manifest.Error || p.File == state || !may {
			continue
		}
		namespace, name, _ := strings.Cut(name, "/")
		faults = append(faults, status.Fault{Service: cluster.ServiceName{Namespace: namespace, Name: name}, Text: p.Error(), Option: p.Option})
	}
	return faults
}

// errorsOf are the texts of what is wrong in a folder, each once.
func errorsOf(problems []manifest.Problem) (texts []string) {
	for _, p := range problems {
		if p.Severity == manifest.Error {
			texts = append(texts, p.Error())
		}
	}
	slices.Sort(texts)
	return slices.Compact(texts)
}
