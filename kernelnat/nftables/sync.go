package nftables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/plan"
	"golang.org/x/sys/unix"
)

// maxCommit is how many elements come and go in one transaction: others wait for it.
const maxCommit = 1000

// Sync implements kernelnat.Backend. It reads what the kernel holds, unless that is known of an
// owned table, takes over the numbers and slots that are there, and writes what differs: first
// the chains of classes, then endpoints that come, then what leads to them, then what goes. The
// chains that packets come in by are written last.
func (b *Backend) Sync(ctx context.Context, state kernelnat.State) ([]string, error) {
	written, err := b.sync(ctx, state)
	if unsupported(err) && !slices.ContainsFunc(state.Services, func(s plan.Service) bool { return len(s.Frontends) > 0 }) {
		return nil, nil // a host without IPv6, say
	}
	if err != nil {
		b.state = nil
		return written, fmt.Errorf("write nftables for %s: %w", b.family, err)
	}
	return written, nil
}

func (b *Backend) sync(ctx context.Context, state kernelnat.State) ([]string, error) {
	if b.owned && b.state != nil && !state.Incomplete && len(b.state.kept) == 0 {
		return nil, b.syncOwned(ctx, state)
	}
	b.state = nil
	there, err := b.find(ctx)
	if err != nil {
		return nil, err
	}
	if there {
		b.countForeign()
	}
	d, err := b.newDialect(state)
	if err != nil {
		return nil, err
	}
	have, err := b.readTwice()
	if err != nil {
		return nil, err
	}
	s := b.session(have)
	batch := newBatch(b.family)
	s.batch, s.send = batch, func() error { return b.commit(ctx, batch) }
	if there && !s.fits(d) {
		s.tell("another layout of the table", "")
		if _, err := b.delete(ctx); err != nil {
			return nil, err
		}
		s.have, there = newHeld(), false
	}
	if !there {
		if err := b.create(ctx); err != nil {
			return nil, err
		}
		b.countForeign()
	}
	b.dialect = d
	if err := s.sync(state); err != nil {
		return s.words(), err
	}
	b.state = s.state
	return s.words(), nil
}

// readTwice reads what the kernel holds, again if somebody has written meanwhile.
func (b *Backend) readTwice() (have *held, err error) {
	for range 5 {
		if have, err = b.socket.read(b.language, b.schema); !errors.Is(err, errDumpInterrupted) {
			break
		}
	}
	return have, err
}

// session begins a Sync of a kernel that holds this. Where it writes to is for the caller to say.
func (b *Backend) session(have *held) *session {
	return &session{Backend: b, have: have, state: newState(b.schema).chosenBy(b.chooser), written: make(map[[2]string]int)}
}

// transaction is what a session writes to: a batch for the kernel, or for Drift a record. It
// has a method for each kind of thing that Sync writes.
type transaction interface {
	writer
	addSet(s *set, number uint32)
	addChain(c *chain)
	addRules(c *chain) error
	flushChain(name string)
	emptyChain(name string)
	deleteChain(name string)
	deleteSet(name string)
	elements() int
	large() bool
	reset()
}

// session is one Sync. It implements writer: of what is put it writes what the kernel does
// not have.
type session struct {
	*Backend
	have  *held
	batch transaction
	send  func() error // what is in the batch
	state *state
	kept  kept
	// With client affinity, by the numbers of pools in the kernel: who has taken one over, and
	// the last number of a member in it.
	pools       map[uint32]*pool
	lastMembers map[uint32]uint32
	err         error // of a commit; then nothing more is written

	written map[[2]string]int // by what was written, in words
}

// fits reports whether the table sees packets, and all sets that are there have the right shape.
// So must what begins where packets come in.
func (s *session) fits(d dialect) bool {
	if s.have.flags&unix.NFT_TABLE_F_DORMANT != 0 {
		return false
	}
	// Another backend has that one, or has had it.
	based := map[string]hook{chainVirtual: hookVirtual}
	for _, c := range s.schema.fixedChains(d) {
		have := s.have.chains[c.name]
		if c.hook != nil {
			based[c.name] = *c.hook
		}
		if have != nil && have.based != (c.hook != nil) {
			return false
		}
	}
	for name, have := range s.have.chains {
		if have.based && have.hook != based[name] {
			return false
		}
	}
	for _, set := range s.schema.sets() {
		if shape, there := s.have.sets[set.name]; there && shape != set.shape() {
			return false
		}
	}
	return true
}

// tell notes that something was written, and of which kind or name. To put these together for
// each element would cost a string for each.
func (s *session) tell(what, of string) { s.written[[2]string{what, of}]++ }

// words says what was written.
func (s *session) words() []string {
	var out []string
	for what, n := range s.written {
		text := what[0] + what[1]
		if n > 1 {
			text = fmt.Sprintf("%s (%d)", text, n)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}

func (s *session) sync(state kernelnat.State) error {
	s.adopt(state)
	all := make([]*service, len(state.Services))
	for i := range state.Services {
		p := &state.Services[i]
		all[i] = s.state.target(s.adopted(p), p)
		s.state.services[p.Name] = all[i]
	}
	s.sets()
	// When a chain comes that looks at a map, the kernel looks at all elements of that map. So
	// new chains come before elements; nothing leads to them yet. Others change when what they
	// look at is there.
	classChains := s.state.classChains(s.dialect)
	if err := s.classes(classChains); err != nil {
		return err
	}
	s.flush()
	before := s.sourcesHeld()
	for _, next := range all {
		s.state.writeMembers(s, nil, next)
		s.state.writeBehind(s, nil, next)
		s.state.pairs(nil, next, func(old, next *frontend) {
			s.removeSources(before, next)
			s.state.writeTargets(s, old, next)
		})
	}
	s.flush()
	if err := s.inOrder(classChains); err != nil {
		return err
	}
	s.flush()
	for _, next := range all {
		for i := range next.frontends {
			s.state.writeClasses(s, new(frontend), &next.frontends[i])
		}
	}
	s.flush()
	for _, next := range all {
		for i := range next.frontends {
			s.state.writeDrops(s, new(frontend), &next.frontends[i])
		}
	}
	s.removeElements()
	s.flush()
	if err := s.chains(s.schema.fixedChains(s.dialect)); err != nil {
		return err
	}
	s.flush()
	s.removeRest()
	s.flush()
	// The state does not know classes that unknown Services alone have. Whoever else comes to have
	// one takes its number.
	maps.DeleteFunc(s.state.named, func(chain string, _ uint32) bool { return !s.kept.chains[chain] })
	s.state.kept, s.state.fresh = s.kept.keys, nil
	return s.err
}

// flush writes what there is to write.
func (s *session) flush() {
	if s.err == nil {
		s.err = s.send()
	}
	s.batch.reset()
}

// put implements writer.
func (s *session) put(set *set, key, data []byte, comment string) {
	have := s.have.elements[set.name]
	value, there := have[string(key)]
	delete(have, string(key))
	switch {
	case there && len(value) == len(data)+len(comment) && value[:len(data)] == string(data) && value[len(data):] == comment:
		return
	case there:
		s.batch.remove(set, key)
	}
	s.batch.put(set, key, data, comment)
	s.tell("elements of ", set.name)
	if s.batch.elements() >= maxCommit {
		s.flush()
	}
}

// sourcesHeld returns the clients that the kernel has frontends restricted to, as elements by
// the keys of the frontends.
func (s *session) sourcesHeld() map[string][]string {
	out := make(map[string][]string)
	for _, place := range []*place{&s.schema.frontends, &s.schema.nodePorts} {
		for key := range s.have.elements[place.sources.name] {
			of := key[:length(place.class.key)]
			out[of] = append(out[of], key)
		}
	}
	return out
}

// removeSources removes those of a frontend that are not to stay, in the transaction in which
// others come: the kernel takes none that overlaps one that is there.
func (s *session) removeSources(before map[string][]string, next *frontend) {
	var buf [64]byte
	held := before[string(appendKey(buf[:0], next.Key))]
	if len(held) == 0 {
		return
	}
	stay := make(map[string]bool, len(next.sources))
	for _, r := range next.sources {
		stay[string(appendSource(buf[:0], next.Key, r))] = true
	}
	set := s.schema.placeOf(next.At.Addr().IsUnspecified()).sources
	for _, key := range held {
		if !stay[key] {
			delete(s.have.elements[set.name], key)
			s.batch.remove(set, []byte(key))
			s.tell("elements of ", set.name)
		}
	}
}

// remove implements writer. What the kernel has and nobody puts is removed in the end.
func (s *session) remove(*set, []byte) {}

// sets creates those that are not there.
func (s *session) sets() {
	for i, set := range s.schema.sets() {
		if _, there := s.have.sets[set.name]; !there {
			s.batch.addSet(set, uint32(i+1))
			s.tell("set ", set.name)
		}
	}
}

// classChains writes the chains of the classes that frontends have, and what leads to them. A
// classes writes the chains of classes that are not there at all, and what leads to them.
func (s *session) classes(all []chain) error {
	fresh := slices.DeleteFunc(slices.Clone(all), func(c chain) bool { return s.have.chains[c.name] != nil })
	if err := s.inOrder(fresh); err != nil {
		return err
	}
	for _, c := range fresh {
		s.have.chains[c.name] = heldAs(&c)
	}
	for number := range s.state.classIDs {
		s.putClass(number)
	}
	return nil
}

// inOrder writes chains of which each leads to those before it alone, in several transactions
// if they are many.
func (s *session) inOrder(all []chain) error {
	for _, c := range all {
		if err := s.chains([]chain{c}); err != nil {
			return err
		}
		if s.batch.large() {
			s.flush()
		}
	}
	return nil
}

// heldAs is a chain as the kernel has it when it is written.
func heldAs(c *chain) *heldChain {
	held := new(heldChain)
	for _, r := range c.rules {
		held.rules = append(held.rules, r.exprs())
	}
	return held
}

func (s *session) putClass(number uint32) {
	c := s.state.classIDs[number]
	for _, set := range s.schema.classesOf(c) {
		s.put(set, appendNumber(nil, number), []byte(c.name()), "")
	}
}

// chains writes those that are not there, or not so. They may lead to one another.
func (s *session) chains(all []chain) error {
	var wrong []chain
	for _, c := range all {
		have := s.have.chains[c.name]
		delete(s.have.chains, c.name)
		switch {
		case have == nil:
			s.batch.addChain(&c)
		case have.is(&c):
			continue
		default:
			s.batch.addChain(&c) // for its policy
			s.batch.flushChain(c.name)
		}
		s.tell("chain ", c.name)
		wrong = append(wrong, c)
	}
	for i := range wrong {
		if err := s.batch.addRules(&wrong[i]); err != nil {
			return err
		}
	}
	return nil
}

// is reports whether a chain is as it should be.
func (h *heldChain) is(c *chain) bool {
	if h.unknown || h.drops || len(h.rules) != len(c.rules) {
		return false
	}
	for i := range h.rules {
		if !reflect.DeepEqual(h.rules[i], c.rules[i].exprs()) {
			return false
		}
	}
	return true
}
