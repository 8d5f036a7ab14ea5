package nftables

import (
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
)

// looked returns what is wrong with all Services of a state.
func (h host) looked(state kernelnat.State, family cluster.Family, settings netfilter.Settings) (wrong []string) {
	h.Helper()
	for _, p := range state.Services {
		h.do(func() error {
			k, err := Look(h.Context(), family, p, state, settings)
			switch {
			case err != nil:
				return err
			case k == nil:
				wrong = append(wrong, "there is no table")
				return nil
			}
			wrong = append(wrong, k.Wrong...)
			if len(k.Frontends) != len(p.Frontends) {
				h.Errorf("%s: %d frontends of %d", p.Name, len(k.Frontends), len(p.Frontends))
			}
			for i, held := range k.Frontends {
				if len(held.Wrong) == 0 && len(held.Meets) == 0 {
					h.Errorf("%s: a packet meets nothing", p.Frontends[i].Key)
				}
				wrong = append(wrong, held.Wrong...)
			}
			return nil
		})
	}
	return wrong
}

// What Sync has written is as planned, whichever Services there are; and whichever element or
// chain that leads to endpoints goes, somebody misses it.
func TestLook(t *testing.T) {
	for _, settings := range []netfilter.Settings{settings, {MasqueradeBit: settings.MasqueradeBit, CountEndpoints: true}} {
		for _, family := range cluster.Families {
			t.Run(family.String(), func(t *testing.T) { lookEverywhere(t, family, settings) })
		}
	}
}

func lookEverywhere(t *testing.T, family cluster.Family, settings netfilter.Settings) {
	h, state := newHost(t), stateOf(family)
	if wrong := h.looked(state, family, settings); len(wrong) != len(state.Services) || wrong[0] != "there is no table" {
		t.Errorf("without a table: %q", wrong)
	}
	b := newBackend(t, family, settings)
	h.do(func() error { _, err := b.Sync(t.Context(), state); return err })
	if wrong := h.looked(state, family, settings); len(wrong) > 0 {
		t.Fatalf("what was written is wrong: %q", wrong)
	}
	schema := b.schema
	for _, p := range []*place{&schema.frontends, &schema.nodePorts} {
		for _, s := range []*set{p.class, p.inside, p.endpoints, p.slots, p.sources, p.drops, p.connections, p.known, schema.classes, schema.members, schema.localMembers} {
			missEach(h, b, s, func() int { return len(h.looked(state, family, settings)) })
		}
	}
	if wrong := h.looked(state, family, settings); len(wrong) > 0 {
		t.Errorf("at the end: %q", wrong)
	}
	for _, chain := range []string{chainServices, chainNodePorts, chainClasses, "nat-prerouting", "to-slot"} {
		h.do(func() error {
			batch := newBatch(family)
			batch.flushChain(chain)
			return b.commit(t.Context(), batch)
		})
		if wrong := h.looked(state, family, settings); len(wrong) == 0 {
			t.Errorf("nobody misses the rules of chain %s", chain)
		}
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// mostMissed is how many elements of a set are taken away, one after the other.
const mostMissed = 8

// missEach takes elements of a set away one by one, and puts each back.
func missEach(h host, b *Backend, s *set, wrong func() int) {
	var all map[string]string
	h.do(func() (err error) { all, err = b.socket.readElements(b.language, s); return err })
	missed := 0
	for key, value := range all {
		if missed++; missed > mostMissed {
			return
		}
		data := value[:min(len(value), length(s.data))]
		comment := value[len(data):]
		if s.hasVerdicts() {
			data, comment = value, ""
		}
		write := func(fill func(*batch)) {
			h.do(func() error {
				batch := newBatch(b.family)
				fill(batch)
				return b.commit(h.Context(), batch)
			})
		}
		write(func(batch *batch) { batch.remove(s, []byte(key)) })
		if wrong() == 0 {
			h.Errorf("nobody misses the element %x of set %s", key, s.name)
		}
		write(func(batch *batch) { batch.put(s, []byte(key), []byte(data), comment) })
	}
}
