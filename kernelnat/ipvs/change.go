package ipvs

import "slices"

// coming returns the endpoints that a virtual server is to have and does not, or with another
// weight: changed says so of each. Nothing of it there is nil.
func coming(held, wanted *server) (fresh, changed []real) {
	var have []real
	if held != nil {
		have = held.reals
	}
	i := 0
	for _, w := range wanted.reals {
		for i < len(have) && compareReals(have[i], w) < 0 {
			i++
		}
		switch {
		case i == len(have) || have[i].at != w.at:
			fresh = append(fresh, w)
		case have[i].weight != w.weight:
			changed = append(changed, w)
		}
	}
	return fresh, changed
}

// going returns the endpoints that a virtual server has and is not to have.
func going(held, wanted *server) (gone []real) {
	i := 0
	for _, h := range held.reals {
		for i < len(wanted.reals) && compareReals(wanted.reals[i], h) < 0 {
			i++
		}
		if i == len(wanted.reals) || wanted.reals[i].at != h.at {
			gone = append(gone, h)
		}
	}
	return gone
}

// with returns sorted endpoints with more, sorted too, which take the place of those at the same
// address and port.
func with(reals, more []real) []real {
	out := make([]real, 0, len(reals)+len(more))
	for len(reals) > 0 && len(more) > 0 {
		switch c := compareReals(reals[0], more[0]); {
		case c < 0:
			out, reals = append(out, reals[0]), reals[1:]
		case c > 0:
			out, more = append(out, more[0]), more[1:]
		default:
			reals = reals[1:]
		}
	}
	return append(append(out, reals...), more...)
}

// without returns sorted endpoints without some of them.
func without(reals, gone []real) []real {
	out := make([]real, 0, len(reals)-len(gone))
	for _, r := range reals {
		if len(gone) > 0 && gone[0].at == r.at {
			gone = gone[1:]
			continue
		}
		out = append(out, r)
	}
	return out
}

func (s *server) equal(o *server) bool {
	return s.id == o.id && s.scheduler == o.scheduler && slices.Equal(s.reals, o.reals)
}
