// Package backends is the one list of what kernelnat can write its rules with. A
// backend is one entry there.
package backends

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/iptables"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
)

// Backend is one of the list.
type Backend struct {
	Name string
	// Places says, in words, where its rules are.
	Places string
	// Lacks are the policies that it does not have.
	Lacks []cluster.Policy
	// New returns those of both IP families. It writes nothing.
	New func(netfilter.Settings) (map[cluster.Family]kernelnat.Backend, error)
	// Rules prints what Sync of one family would write to a kernel without any rules,
	// on this node.
	Rules func(io.Writer, cluster.Family, kernelnat.State, netfilter.Settings) error
}

var all = []Backend{
	{Name: Default, Places: "iptables, nft and legacy variant", Lacks: iptables.Lacks, New: iptables.New, Rules: iptables.Rules},
}

// Default is the backend that is used where none is named.
const Default = "iptables"

// Find returns the backend of that name. The error says which there are.
func Find(name string) (Backend, error) {
	i := slices.IndexFunc(all, func(b Backend) bool { return b.Name == name })
	if i < 0 {
		return Backend{}, fmt.Errorf("%q is not available in this version: use %s", name, Names())
	}
	return all[i], nil
}

// Names are those of all backends, in words: "a or b".
func Names() string { return each(" or ", func(b Backend) string { return b.Name }) }

// Places are where the rules of all backends are, in words.
func Places() string { return each(", ", func(b Backend) string { return b.Places }) }

func each(separator string, word func(Backend) string) string {
	var words []string
	for _, b := range all {
		words = append(words, word(b))
	}
	return strings.Join(words, separator)
}

// Cleanup removes everything that any backend ever writes, and goes on after an error.
func Cleanup(ctx context.Context) error {
	var errs []error
	for _, b := range all {
		families, err := b.New(netfilter.Settings{})
		errs = append(errs, err)
		for _, backend := range families {
			errs = append(errs, backend.Cleanup(ctx))
		}
	}
	return errors.Join(errs...)
}
