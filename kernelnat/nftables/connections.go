package nftables

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/clusterip/clusterip/kernelnat"
	"golang.org/x/sys/unix"
)

// Connections implements kernelnat.Backend. It lists the sets that count, over a socket of
// its own.
func (b *Backend) Connections() ([]kernelnat.Connections, error) {
	s, err := dial()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	counts := make(counts, 0, b.counted.Load())
	members := make(map[uint32]kernelnat.Connections)
	for _, place := range []*place{&b.schema.frontends, &b.schema.nodePorts} {
		ports := make(map[string]kernelnat.Connections)
		err := s.eachCount(b.language, place.connections, func(key, _ []byte, comment string, count uint64) {
			of := portOf(comment)
			counts.add(of, count)
			if place.endpoints.counted {
				ports[string(key)] = of
			}
		})
		if err == nil && place.endpoints.counted {
			err = b.countEndpoints(s, place, ports, &counts, members)
		}
		if err != nil {
			return nil, fmt.Errorf("list what set %s counts: %w", place.connections.name, err)
		}
	}
	for _, set := range []*set{b.schema.members, b.schema.localMembers} {
		if err := b.countMembers(s, set, &counts, members); err != nil {
			return nil, fmt.Errorf("list what set %s counts: %w", set.name, err)
		}
	}
	b.counted.Store(int64(len(counts)))
	return counts.sum(), nil
}

// counts are what has been counted, in any order. A map of them would leave five times as
// much to the garbage collector, each time that somebody asks.
type counts []kernelnat.Connections

func (c *counts) add(of kernelnat.Connections, count uint64) {
	of.Count = count
	*c = append(*c, of)
}

// sum returns them with one count for each port or endpoint.
func (c counts) sum() []kernelnat.Connections {
	slices.SortFunc(c, func(a, b kernelnat.Connections) int {
		return cmp.Or(a.Service.Compare(b.Service), cmp.Compare(a.Port, b.Port), a.Endpoint.Compare(b.Endpoint))
	})
	out := c[:0]
	for _, next := range c {
		if n := len(out); n > 0 && out[n-1].Service == next.Service && out[n-1].Port == next.Port && out[n-1].Endpoint == next.Endpoint {
			out[n-1].Count += next.Count
		} else {
			out = append(out, next)
		}
	}
	return out
}

// portOf returns the port of a Service that a comment names.
func portOf(comment string) kernelnat.Connections {
	_, port, _ := strings.Cut(comment, ":")
	return kernelnat.Connections{Service: serviceOf(comment), Port: port}
}

// countEndpoints adds up what the slots of frontends have counted, and notes whose the members
// in them are.
func (b *Backend) countEndpoints(s *socket, place *place, ports map[string]kernelnat.Connections, counts *counts, members map[uint32]kernelnat.Connections) error {
	size := length(place.class.key)
	err := s.eachCount(b.language, place.endpoints, func(key, data []byte, _ string, count uint64) {
		if of, known := ports[string(key[:size])]; known {
			of.Endpoint = addrPortOf(data)
			counts.add(of, count)
		}
	})
	if err != nil {
		return err
	}
	return s.eachCount(b.language, place.slots, func(key, data []byte, _ string, _ uint64) {
		if of, known := ports[string(key[:size])]; known {
			members[binary.NativeEndian.Uint32(data)] = of
		}
	})
}

// countMembers adds up what members have counted, which are the endpoints of clients that keep
// theirs.
func (b *Backend) countMembers(s *socket, set *set, counts *counts, members map[uint32]kernelnat.Connections) error {
	if !set.counted {
		return nil
	}
	return s.eachCount(b.language, set, func(key, data []byte, _ string, count uint64) {
		if of, known := members[binary.NativeEndian.Uint32(key)]; known {
			of.Endpoint = addrPortOf(data)
			counts.add(of, count)
		}
	})
}

// eachCount calls f for the elements of a set, with what each has counted. There are none
// where there is no such set.
func (s *socket) eachCount(l language, set *set, f func(key, data []byte, comment string, count uint64)) error {
	request := l.request(unix.NFT_MSG_GETSETELEM, func(m *messages) {
		m.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
		m.text(unix.NFTA_SET_ELEM_LIST_SET, set.name)
	})
	err := s.dump(request, func(body []byte) error {
		return attributes(body, func(kind uint16, list []byte) {
			if kind == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				eachElement(list, func(e element) { f(e.key, e.data, string(e.comment), e.count) })
			}
		})
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, errDumpInterrupted) {
		return nil // a count that is missed is there the next time
	}
	return err
}

// countOf reads a counter.
func countOf(expression []byte) (count uint64) {
	_ = attributes(expression, func(kind uint16, value []byte) {
		if kind != unix.NFTA_EXPR_DATA {
			return
		}
		_ = attributes(value, func(kind uint16, value []byte) {
			if kind == unix.NFTA_COUNTER_PACKETS && len(value) == 8 {
				count = binary.BigEndian.Uint64(value)
			}
		})
	})
	return count
}
