package nftables

// removeElements removes what nobody has put, but for what is kept: first what has packets
// dropped that nobody translates, then what has them translated.
func (s *session) removeElements() {
	s.keepUnknown()
	sets := s.schema.sets()
	for _, set := range append([]*set{s.schema.frontends.drops, s.schema.nodePorts.drops}, sets...) {
		if set.hasVerdicts() {
			continue
		}
		for key := range s.have.elements[set.name] {
			delete(s.have.elements[set.name], key)
			s.batch.remove(set, []byte(key))
			s.tell("elements that are nobody's of ", set.name)
			if s.batch.elements() >= maxCommit {
				s.flush()
			}
		}
	}
}

// removeRest removes classes that no frontend has, and sets and chains that are not ours: sets
// first, since their elements may lead to chains.
func (s *session) removeRest() {
	for _, set := range []*set{s.schema.classes, s.schema.shortcuts} {
		for key, name := range s.have.elements[set.name] {
			if !s.kept.chains[name] {
				s.batch.remove(set, []byte(key))
				s.tell("classes that no frontend has", "")
			}
		}
	}
	for name := range s.have.chains {
		if !s.kept.chains[name] {
			s.batch.emptyChain(name)
			s.tell("chains that nothing needs", "")
		}
		if s.batch.large() {
			s.flush()
		}
	}
	for _, set := range s.schema.sets() {
		delete(s.have.sets, set.name)
	}
	for name := range s.have.sets {
		s.batch.deleteSet(name)
		s.tell("sets that are not ours", "")
	}
	for name := range s.have.chains {
		if !s.kept.chains[name] {
			s.batch.deleteChain(name)
		}
		if s.batch.large() {
			s.flush()
		}
	}
}
