package nftables

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"github.com/clusterip/clusterip/status"
	"github.com/google/nftables/expr"
)

// record is a transaction that notes what it would change. It is never large.
type record struct {
	language
	// What the kernel holds, which a session takes apart.
	chains map[string]*heldChain
	values map[string]map[string]string
	// Whose frontends are, by their keys, in the sets of their place; and whose members, by
	// their numbers.
	owners  map[*set]owners
	slots   map[*set]bool
	members map[uint32]cluster.ServiceName

	out     []noted
	gone    map[*set]map[string]int // the places in out of elements that may come again
	dropped map[string]bool         // chains
}

// owners are those of frontends by their keys, of so many bytes.
type owners struct {
	size int
	of   map[string]cluster.ServiceName
}

// noted is a Drift whose Service is perhaps known only in the end: that of a member.
type noted struct {
	status.Drift
	member uint32
}

func newRecord(l language, schema *schema, have *held, services []plan.Service) *record {
	r := &record{
		language: l, chains: maps.Clone(have.chains), values: make(map[string]map[string]string), owners: make(map[*set]owners),
		slots: make(map[*set]bool), members: make(map[uint32]cluster.ServiceName), gone: make(map[*set]map[string]int), dropped: make(map[string]bool),
	}
	for name, elements := range have.elements {
		r.values[name] = maps.Clone(elements)
	}
	for _, p := range []*place{&schema.frontends, &schema.nodePorts} {
		all := owners{length(p.class.key), make(map[string]cluster.ServiceName)}
		for key, comment := range have.elements[p.connections.name] {
			all.of[key] = serviceOf(comment)
		}
		for i := range services {
			for _, f := range services[i].Frontends {
				if schema.placeOf(f.Kind == plan.NodePort) == p {
					all.of[string(appendKey(nil, f.Key))] = services[i].Name
				}
			}
		}
		for _, s := range p.sets() {
			r.owners[s] = all
		}
		r.slots[p.slots] = true
		for key, number := range have.elements[p.slots.name] {
			r.members[numberIn(number)] = all.of[key[:all.size]]
		}
	}
	return r
}

// thing names one in our table, or the table itself, in nft's words.
func (l language) thing(kind, name string) string {
	if name == "" {
		return fmt.Sprintf("%s %s %s", kind, l.ip(), tableName)
	}
	return fmt.Sprintf("%s %s %s %s", kind, l.ip(), tableName, name)
}

func (r *record) note(change status.DriftChange, text string) {
	r.out = append(r.out, noted{Drift: status.Drift{Change: change, Text: text}})
}

// element notes one of a set.
func (r *record) element(change status.DriftChange, s *set, key, data []byte, comment string) {
	n := noted{Drift: status.Drift{Change: change, Text: r.thing("element", s.name) + " { " + elementText(s, key, data, comment) + " }"}}
	if all, of := r.owners[s]; of {
		n.Service = status.DriftOwner(all.of[string(key[:all.size])])
	} else if len(s.key) == 2 && s.key[0] == number && s.key[1] == protocol {
		n.member = numberIn(string(key))
	}
	r.out = append(r.out, n)
}

// put implements writer. An element that was removed before is changed.
func (r *record) put(s *set, key, data []byte, comment string) {
	if r.slots[s] {
		all := r.owners[s]
		r.members[numberIn(string(data))] = all.of[string(key[:all.size])]
	}
	r.element(status.DriftAdd, s, key, data, comment)
	at, was := r.gone[s][string(key)]
	if !was {
		return
	}
	last := len(r.out) - 1
	r.out[at].Change, r.out[at].Was, r.out[at].Text = status.DriftChanged, r.out[at].Text, r.out[last].Text
	r.out = r.out[:last]
	delete(r.gone[s], string(key))
}

// remove implements writer.
func (r *record) remove(s *set, key []byte) {
	value := r.values[s.name][string(key)]
	data, comment := []byte(value), ""
	if !s.hasVerdicts() {
		size := min(len(value), length(s.data))
		data, comment = data[:size], value[size:]
	}
	if r.gone[s] == nil {
		r.gone[s] = make(map[string]int)
	}
	r.gone[s][string(key)] = len(r.out)
	r.element(status.DriftRemove, s, key, data, comment)
}

func (r *record) addSet(s *set, _ uint32) {
	r.note(status.DriftAdd, r.thing(s.word(), s.name)+" { "+s.declaration()+" }")
}

func (r *record) deleteSet(name string) { r.note(status.DriftRemove, r.thing("set", name)) }

func (r *record) addChain(c *chain) {
	if r.chains[c.name] == nil {
		r.note(status.DriftAdd, r.thing("chain", c.name))
	}
}

// addRules notes which of a chain's rules are not there, and how many others are. What those
// are is for nft to say: a rule of any program may be there.
func (r *record) addRules(c *chain) error {
	have := r.chains[c.name]
	if have == nil {
		have = new(heldChain)
	}
	others := slices.Clone(have.rules)
	before := len(r.out)
	for _, rule := range c.rules {
		at := slices.IndexFunc(others, func(is []expr.Any) bool { return reflect.DeepEqual(is, rule.exprs()) })
		if at >= 0 {
			others = slices.Delete(others, at, at+1)
			continue
		}
		r.note(status.DriftAdd, r.thing("rule", c.name)+" "+rule.String())
	}
	for range others {
		r.out = append(r.out, noted{Drift: status.Drift{Change: status.DriftRemove, Text: r.thing("rule", c.name), Of: "not as kernelnat writes it; see nft list " + r.thing("chain", c.name)}})
	}
	switch {
	case have.drops:
		r.note(status.DriftChanged, r.thing("chain", c.name)+" { policy accept; }")
	case len(r.out) == before && len(c.rules) > 0:
		r.note(status.DriftChanged, r.thing("chain", c.name)+", whose rules are in another order")
	}
	return nil
}

func (r *record) flushChain(string) {}

func (r *record) emptyChain(name string) { r.deleteChain(name) }

func (r *record) deleteChain(name string) {
	if !r.dropped[name] {
		r.dropped[name] = true
		r.note(status.DriftRemove, r.thing("chain", name))
	}
}

func (r *record) elements() int { return 0 }

func (r *record) large() bool { return false }

func (r *record) reset() {}

// drift returns what was noted, by Service.
func (r *record) drift() []status.Drift {
	out := make([]status.Drift, len(r.out))
	for i := range r.out {
		out[i] = r.out[i].Drift
		if n := r.out[i].member; n != 0 {
			out[i].Service = status.DriftOwner(r.members[n])
		}
	}
	slices.SortStableFunc(out, func(a, b status.Drift) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Text, b.Text))
	})
	return out
}
