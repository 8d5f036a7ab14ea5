package nftables

import (
	"testing"

	"github.com/clusterip/clusterip/cluster"
)

// What the kernel tells is read without a fault, whatever it is.
func FuzzRead(f *testing.F) {
	schema := newSchema(cluster.IPv4, false)
	b := newBatch(cluster.IPv4)
	s := newState(schema)
	for _, p := range varied(cluster.IPv4) {
		s.change(b, nil, s.target(nil, &p))
	}
	for _, c := range s.classChains(dialect{language: language{cluster.IPv4}}) {
		b.addChain(&c)
		if err := b.addRules(&c); err != nil {
			f.Fatal(err)
		}
	}
	for rest := b.transaction(); len(rest) > 20; {
		length := int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16
		f.Add(rest[20:length])
		rest = rest[length:]
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		_ = attributes(body, func(kind uint16, value []byte) {
			eachElement(value, func(e element) { valueOf(e.data) })
			_ = attributes(value, func(_ uint16, value []byte) {
				_, _ = language{cluster.IPv4}.expression(value)
				countOf(value)
			})
			_, _ = textOf(value), numberOf(value)
		})
		describeMessage(append(make([]byte, 20), body...))
	})
}
