package cluster

import (
	"math/rand"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
)

// endpoint is 10.0.0.last on port 80 with conditions such as "rs" (ready,
// serving) or "st" (serving, terminating).
func endpoint(last byte, conditions string) Endpoint {
	return Endpoint{
		Addr:        netip.AddrFrom4([4]byte{10, 0, 0, last}),
		Slice:       &EndpointSlice{Ports: []EndpointPort{{Protocol: TCP, Port: 80}}},
		Ready:       slices.Contains([]byte(conditions), 'r'),
		Serving:     slices.Contains([]byte(conditions), 's'),
		Terminating: slices.Contains([]byte(conditions), 't'),
	}
}

func named(e Endpoint, pod, hostname string) Endpoint {
	e.PodName, e.Hostname = pod, hostname
	return e
}

func onPort(e Endpoint, port uint16) Endpoint {
	e.Slice = &EndpointSlice{Ports: []EndpointPort{{Protocol: TCP, Port: port}}}
	return e
}

func diff(want, got any) string {
	return cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }))
}

func TestNewMergesSlices(t *testing.T) {
	for _, test := range []struct {
		name   string
		slices [][]Endpoint
		want   []Endpoint
	}{
		{"none", nil, nil},
		{"empty slices", [][]Endpoint{{}, nil}, nil},
		{
			"sorted by address, as numbers",
			[][]Endpoint{{endpoint(10, "rs"), endpoint(9, "rs")}, {endpoint(1, "rs")}},
			[]Endpoint{endpoint(1, "rs"), endpoint(9, "rs"), endpoint(10, "rs")},
		},
		{
			"the same in two slices: the better condition counts",
			[][]Endpoint{{endpoint(1, "st"), endpoint(2, "rs")}, {endpoint(1, "rs"), endpoint(2, "")}},
			[]Endpoint{endpoint(1, "rs"), endpoint(2, "rs")},
		},
		{
			"serving is better than not, and not terminating than terminating",
			[][]Endpoint{{endpoint(1, "t"), endpoint(2, "st")}, {endpoint(1, "st"), endpoint(2, "s")}},
			[]Endpoint{endpoint(1, "st"), endpoint(2, "s")},
		},
		{
			"an address with two names, and one of them in two slices",
			[][]Endpoint{{endpoint(1, "rs"), named(endpoint(1, ""), "pod", "host")}, {named(endpoint(1, "rs"), "pod", "host")}},
			[]Endpoint{named(endpoint(1, "rs"), "pod", "host"), endpoint(1, "rs")},
		},
		{
			"other ports are another endpoint",
			[][]Endpoint{{onPort(endpoint(1, "rs"), 81), endpoint(1, "rs")}},
			[]Endpoint{endpoint(1, "rs"), onPort(endpoint(1, "rs"), 81)},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := New(Service{Name: ServiceName{"testing", "echo"}}, test.slices...)
			if d := diff(test.want, got.Endpoints); d != "" {
				t.Error(d)
			}
			if cap(got.Endpoints) != len(got.Endpoints) {
				t.Errorf("cap %d, len %d: an append would write into what is published", cap(got.Endpoints), len(got.Endpoints))
			}
		})
	}
}

// The result does not depend on how endpoints are spread over slices.
func TestNewIgnoresOrder(t *testing.T) {
	rng := rand.New(rand.NewSource(1))
	var all []Endpoint
	for range 60 {
		e := onPort(endpoint(byte(rng.Intn(8)), []string{"rs", "st", "", "s", "r"}[rng.Intn(5)]), 80+uint16(rng.Intn(2)))
		all = append(all, named(e, []string{"", "a", "b"}[rng.Intn(3)], []string{"", "x"}[rng.Intn(2)]))
	}
	want := New(Service{}, all)
	given := slices.Clone(all)
	for range 50 {
		rng.Shuffle(len(given), func(i, j int) { given[i], given[j] = given[j], given[i] })
		cut := rng.Intn(len(given))
		before := slices.Clone(given)
		if got := New(Service{}, given[:cut], given[cut:]); !reflect.DeepEqual(want, got) {
			t.Fatal(diff(want, got))
		}
		if !reflect.DeepEqual(before, given) {
			t.Fatal("New changed the slices that it was given")
		}
	}
}

func TestUsable(t *testing.T) {
	for _, test := range []struct {
		name        string
		given, want []Endpoint
	}{
		{"none", nil, nil},
		{"all ready", []Endpoint{endpoint(1, "rs"), endpoint(2, "rs")}, []Endpoint{endpoint(1, "rs"), endpoint(2, "rs")}},
		{"some ready", []Endpoint{endpoint(1, ""), endpoint(2, "rs"), endpoint(3, "st")}, []Endpoint{endpoint(2, "rs")}},
		{"none ready, some serve while they terminate", []Endpoint{endpoint(1, ""), endpoint(2, "t"), endpoint(3, "st")}, []Endpoint{endpoint(3, "st")}},
		{"serving but neither ready nor terminating", []Endpoint{endpoint(1, "s")}, []Endpoint{}},
		{"published though not ready", []Endpoint{endpoint(1, "r"), endpoint(2, "rt")}, []Endpoint{endpoint(1, "r"), endpoint(2, "rt")}},
		{"nothing usable", []Endpoint{endpoint(1, ""), endpoint(2, "t")}, []Endpoint{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if d := diff(test.want, Usable(test.given)); d != "" {
				t.Error(d)
			}
		})
	}
	t.Run("no allocation when all are ready", func(t *testing.T) {
		all := []Endpoint{endpoint(1, "rs"), endpoint(2, "rs")}
		if n := testing.AllocsPerRun(100, func() { Usable(all) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

// A large cluster has ten endpoints for each Service, and what they take is most of
// the memory of the process.
func TestEndpointSize(t *testing.T) {
	if size := unsafe.Sizeof(Endpoint{}); size > 88 {
		t.Errorf("an Endpoint takes %d bytes: have several share what is new", size)
	}
}

func TestZeroEndpoint(t *testing.T) {
	var e Endpoint
	if e.Ports() != nil || e.ZoneHints() != nil || e.NodeHints() != nil {
		t.Errorf("ports %v, hints %v and %v", e.Ports(), e.ZoneHints(), e.NodeHints())
	}
	if e.Cluster() != "" || e.NodeName() != "" || e.Zone() != "" {
		t.Errorf("in cluster %q, on node %q in zone %q", e.Cluster(), e.NodeName(), e.Zone())
	}
}

func TestPortFor(t *testing.T) {
	e := Endpoint{Slice: &EndpointSlice{Ports: []EndpointPort{{"dns", UDP, 5353}, {"dns", TCP, 5354}, {"", TCP, 80}}}}
	for _, test := range []struct {
		port Port
		want uint16
		ok   bool
	}{
		{Port{Name: "dns", Protocol: UDP, Port: 53}, 5353, true},
		{Port{Name: "dns", Protocol: TCP, Port: 53}, 5354, true},
		{Port{Name: "", Protocol: TCP, Port: 8080}, 80, true},
		{Port{Name: "web", Protocol: TCP, Port: 80}, 0, false},
		{Port{Name: "", Protocol: UDP, Port: 80}, 0, false},
	} {
		if got, ok := e.PortFor(test.port); got != test.want || ok != test.ok {
			t.Errorf("PortFor(%+v) = %d, %t; want %d, %t", test.port, got, ok, test.want, test.ok)
		}
	}
}

func TestProtocols(t *testing.T) {
	for text, want := range map[string]Protocol{"": TCP, "TCP": TCP, "UDP": UDP, "SCTP": SCTP} {
		got, err := ParseProtocol(text)
		if err != nil || got != want {
			t.Errorf("ParseProtocol(%q) = %v, %v", text, got, err)
		}
		if text != "" && got.String() != text {
			t.Errorf("%q prints as %q", text, got)
		}
	}
	for _, text := range []string{"tcp", "ICMP", "TCP "} {
		if _, err := ParseProtocol(text); err == nil {
			t.Errorf("ParseProtocol(%q) takes it", text)
		}
	}
}
