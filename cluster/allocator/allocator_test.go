package allocator

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	v4   = []cluster.Family{cluster.IPv4}
	dual = []cluster.Family{cluster.IPv4, cluster.IPv6}
)

func service(name string) cluster.ServiceName {
	return cluster.ServiceName{Namespace: "testing", Name: name}
}

func newAllocator(t testing.TB, cidrs ...string) *Allocator {
	t.Helper()
	a, err := New(prefixes(cidrs...))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func prefixes(cidrs ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, cidr := range cidrs {
		out = append(out, netip.MustParsePrefix(cidr))
	}
	return out
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

// claim asks for any IPv4 address, or for the static ones.
func claim(name string, static ...string) Claim {
	return Claim{Service: service(name), Families: v4, Static: addrs(static...)}
}

func created(c Claim, year int) Claim {
	c.Created = time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC)
	return c
}

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		cidrs []netip.Prefix
		want  string
	}{
		{nil, "0 service CIDRs"},
		{make([]netip.Prefix, 65), "65 service CIDRs given: give from 1 to 64"},
		{prefixes("10.0.0.0/24", "fd00::/108", "10.0.0.0/16"), "service CIDRs 10.0.0.0/24 and 10.0.0.0/16 have addresses in common: keep the larger one"},
		{prefixes("fd00::/63"), "shortest IPv6 prefix is /64"},
		{prefixes("10.0.0.0/31"), "no usable address"},
		{prefixes("10.0.0.0/32"), "no usable address"},
		{prefixes("fd00::/128"), "no usable address"},
		{[]netip.Prefix{{}}, "is no CIDR"},
		{prefixes("::ffff:10.0.0.0/112"), "is no CIDR"},
	} {
		t.Run(test.want, func(t *testing.T) {
			if _, err := New(test.cidrs); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("New(%v) = %v, want an error with %q", test.cidrs, err, test.want)
			}
		})
	}
}

var otherService = service("other")

// staticDemands are claims of addresses in 10.0.0.0/24, beside those that are held.
var staticDemands = []struct {
	name    string
	held    Allocations
	claims  []Claim
	absent  bool
	want    Allocations
	wantErr string // of Service a
}{
	{
		name:   "honoured, also in the upper band",
		claims: []Claim{claim("a", "10.0.0.5"), claim("b", "10.0.0.254")},
		want:   Allocations{service("a"): addrs("10.0.0.5"), service("b"): addrs("10.0.0.254")},
	},
	{
		name:    "outside",
		claims:  []Claim{claim("a", "10.0.1.5")},
		wantErr: "spec.clusterIP 10.0.1.5 is outside the service CIDR 10.0.0.0/24",
	},
	{
		name:    "network address",
		claims:  []Claim{claim("a", "10.0.0.0")},
		wantErr: "10.0.0.0 is the network or broadcast address of 10.0.0.0/24",
	},
	{
		name:    "broadcast address",
		claims:  []Claim{claim("a", "10.0.0.255")},
		wantErr: "10.0.0.255 is the network or broadcast address",
	},
	{
		name:    "taken by a dynamic holder",
		held:    Allocations{otherService: addrs("10.0.0.5")},
		claims:  []Claim{claim("a", "10.0.0.5"), claim("other")},
		want:    Allocations{otherService: addrs("10.0.0.5")},
		wantErr: "10.0.0.5 is taken by Service testing/other",
	},
	{
		name:    "who holds it keeps it, even from an older one",
		held:    Allocations{otherService: addrs("10.0.0.5")},
		claims:  []Claim{created(claim("a", "10.0.0.5"), 2001), created(claim("other", "10.0.0.5"), 2020)},
		want:    Allocations{otherService: addrs("10.0.0.5")},
		wantErr: "taken by Service testing/other",
	},
	{
		name:    "the older one wins",
		claims:  []Claim{created(claim("a", "10.0.0.5"), 2020), created(claim("other", "10.0.0.5"), 2001)},
		want:    Allocations{otherService: addrs("10.0.0.5")},
		wantErr: "taken by Service testing/other",
	},
	{
		name:    "an unknown age loses",
		claims:  []Claim{claim("a", "10.0.0.5"), created(claim("other", "10.0.0.5"), 2020)},
		want:    Allocations{otherService: addrs("10.0.0.5")},
		wantErr: "taken by Service testing/other",
	},
	{
		name:   "of equal age the first by name wins",
		claims: []Claim{created(claim("b", "10.0.0.5"), 2020), created(claim("a", "10.0.0.5"), 2020)},
		want:   Allocations{service("a"): addrs("10.0.0.5")},
	},
	{
		name:   "demanding it keeps what is held already",
		held:   Allocations{service("a"): addrs("10.0.0.5")},
		claims: []Claim{claim("a", "10.0.0.5")},
		want:   Allocations{service("a"): addrs("10.0.0.5")},
	},
	{
		name:   "no longer demanding it keeps it too",
		held:   Allocations{service("a"): addrs("10.0.0.5")},
		claims: []Claim{claim("a")},
		want:   Allocations{service("a"): addrs("10.0.0.5")},
	},
	{
		name:   "two exchange their addresses",
		held:   Allocations{service("a"): addrs("10.0.0.5"), otherService: addrs("10.0.0.6")},
		claims: []Claim{claim("a", "10.0.0.6"), claim("other", "10.0.0.5")},
		want:   Allocations{service("a"): addrs("10.0.0.6"), otherService: addrs("10.0.0.5")},
	},
	{
		name:    "a refused demand leaves what was held",
		held:    Allocations{service("a"): addrs("10.0.0.7"), otherService: addrs("10.0.0.5")},
		claims:  []Claim{claim("a", "10.0.0.5"), claim("other")},
		want:    Allocations{service("a"): addrs("10.0.0.7"), otherService: addrs("10.0.0.5")},
		wantErr: "taken by Service testing/other",
	},
	{
		name:   "the deleted lose theirs",
		held:   Allocations{otherService: addrs("10.0.0.5")},
		claims: []Claim{claim("a", "10.0.0.5")},
		want:   Allocations{service("a"): addrs("10.0.0.5")},
	},
	{
		name:   "the absent keep theirs",
		held:   Allocations{otherService: addrs("10.0.0.6")},
		claims: []Claim{claim("a", "10.0.0.5")},
		absent: true,
		want:   Allocations{service("a"): addrs("10.0.0.5"), otherService: addrs("10.0.0.6")},
	},
	{
		name:   "the absent lose theirs to a demand",
		held:   Allocations{otherService: addrs("10.0.0.5")},
		claims: []Claim{claim("a", "10.0.0.5")},
		absent: true,
		want:   Allocations{service("a"): addrs("10.0.0.5")},
	},
	{
		name:    "no range of that family",
		claims:  []Claim{{Service: service("a"), Families: []cluster.Family{cluster.IPv6}}},
		wantErr: "there is no IPv6 service CIDR",
	},
}

func TestStaticDemands(t *testing.T) {
	for _, test := range staticDemands {
		t.Run(test.name, func(t *testing.T) {
			a := newAllocator(t, "10.0.0.0/24")
			if errs := a.Restore(test.held); len(errs) > 0 {
				t.Fatal(errs)
			}
			for range 2 { // a second call must change nothing
				keep := func(cluster.ServiceName) bool { return test.absent }
				errs := a.Sync(test.claims, keep)
				if err := errs[service("a")]; (test.wantErr == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), test.wantErr) {
					t.Errorf("error of Service a is %v, want %q", err, test.wantErr)
				}
				if diff := cmp.Diff(test.want, a.Allocations(), cmpopts.EquateEmpty(), cmp.Comparer(sameAddr)); diff != "" {
					t.Errorf("allocations differ from what is wanted (-):\n%s", diff)
				}
			}
		})
	}
}

func everybody(cluster.ServiceName) bool { return true }

// When no address is left for a Service that is there, one that may not be gives
// up its own, by name and no more than it takes; who is there loses nothing.
func TestAbsentMakeRoom(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/29", "fd00::/64") // 6 usable IPv4 addresses
	claims := []Claim{claim("stays")}
	for i := range 5 {
		c := claim(fmt.Sprint("gone", i))
		c.Families = dual
		claims = append(claims, c)
	}
	if errs := a.Sync(claims, nil); len(errs) > 0 {
		t.Fatal(errs)
	}
	before := a.Allocations()
	claims = []Claim{claim("stays"), claim("new0"), claim("new1")}
	for range 2 { // a second call must change nothing
		if errs := a.Sync(claims, everybody); len(errs) > 0 {
			t.Error(errs)
		}
		checkInvariants(t, a)
		if !slices.Equal(a.Held(service("stays")), before[service("stays")]) {
			t.Error("a Service that is there has another address")
		}
		for i := range 5 {
			held, was := a.Held(service(fmt.Sprint("gone", i))), before[service(fmt.Sprint("gone", i))]
			if i < 2 {
				was = was[1:] // the IPv4 one
			}
			if !slices.Equal(held, was) {
				t.Errorf("gone%d holds %v, want %v", i, held, was)
			}
		}
	}
	for i := range 4 {
		claims = append(claims, claim(fmt.Sprint("more", i)))
	}
	if errs := a.Sync(claims, everybody); len(errs) != 1 {
		t.Errorf("7 Services for 6 addresses: %v", errs)
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }

func TestDynamicBands(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/26") // 62 usable, of them 16 in the static band
	var claims []Claim
	for i := range 63 {
		claims = append(claims, claim(fmt.Sprintf("s%02d", i)))
		errs := a.Sync(claims, nil)
		if len(errs) != max(0, i-61) {
			t.Fatalf("with %d Services the errors are %v", i+1, errs)
		}
		low := 0
		for _, held := range a.Allocations() {
			if held[0].Less(netip.MustParseAddr("10.0.0.17")) {
				low++
			}
		}
		if want := max(0, min(i+1, 62)-46); low != want {
			t.Errorf("with %d Services %d are in the static band, want %d", i+1, low, want)
		}
	}
	err := a.Sync(claims, nil)[service("s62")]
	if err == nil || !strings.Contains(err.Error(), "no IPv4 ClusterIP is left in 10.0.0.0/26: delete Services, or add a CIDR") {
		t.Errorf("error when full: %v", err)
	}
	if errs := a.Sync(claims[1:], nil); len(errs) > 0 {
		t.Errorf("after one was deleted: %v", errs)
	}
}

func TestDualStack(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/24", "fd00::/64")
	c := Claim{Service: service("a"), Families: dual}
	a.Sync([]Claim{c}, nil)
	both := a.Held(c.Service)
	if len(both) != 2 || !both[0].Is4() || !both[1].Is6() {
		t.Fatalf("held %v, want IPv4 and IPv6", both)
	}
	c.Families = []cluster.Family{cluster.IPv6, cluster.IPv4}
	a.Sync([]Claim{c}, nil)
	if got := a.Held(c.Service); !slices.Equal(got, []netip.Addr{both[1], both[0]}) {
		t.Errorf("with the families turned round it holds %v, want the same two, IPv6 first", got)
	}
	c.Families = v4
	a.Sync([]Claim{c}, nil)
	if got := a.Held(c.Service); !slices.Equal(got, both[:1]) {
		t.Errorf("as single-stack it holds %v, want %v", got, both[:1])
	}
	if len(both) != 2 || !both[0].Is4() {
		t.Errorf("the slice handed out before changed to %v", both)
	}
}

func TestRestoreDrops(t *testing.T) {
	for name, held := range map[string]Allocations{
		"outside":         {service("a"): addrs("10.9.0.1")},
		"other family":    {service("a"): addrs("fd00::1")},
		"network address": {service("a"): addrs("10.0.0.0")},
		"two holders":     {service("a"): addrs("10.0.0.1"), service("b"): addrs("10.0.0.1")},
		"two of a family": {service("a"): addrs("10.0.0.1", "10.0.0.2")},
		"twice the same":  {service("a"): addrs("10.0.0.1", "10.0.0.1")},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAllocator(t, "10.0.0.0/24")
			if errs := a.Restore(held); len(errs) != 1 {
				t.Errorf("errors %v, want one", errs)
			}
			a.Sync([]Claim{claim("a"), claim("b")}, nil)
			checkInvariants(t, a)
		})
	}
}

// Machines that read the same folder agree, whatever the order of the objects.
func TestMachinesAgree(t *testing.T) {
	var claims []Claim
	for i := range 300 {
		claims = append(claims, claim(fmt.Sprint("s", i)))
	}
	one, two := newAllocator(t, "10.43.0.0/16"), newAllocator(t, "10.43.0.0/16")
	one.Sync(claims, nil)
	slices.Reverse(claims)
	two.Sync(claims, nil)
	if diff := cmp.Diff(one.Allocations(), two.Allocations(), cmp.Comparer(sameAddr)); diff != "" {
		t.Error(diff)
	}
	// Growing one by one, collisions may fall otherwise, but few do.
	three := newAllocator(t, "10.43.0.0/16")
	for i := range claims {
		three.Sync(claims[:i+1], nil)
	}
	same := 0
	for name, held := range one.Allocations() {
		if slices.Equal(held, three.Held(name)) {
			same++
		}
	}
	if same < 295 {
		t.Errorf("only %d of 300 addresses are the same when Services come one by one", same)
	}
}

func BenchmarkSync10000(b *testing.B) {
	a := newAllocator(b, "10.43.0.0/16")
	var claims []Claim
	for i := range 10_000 {
		claims = append(claims, claim(fmt.Sprint("service-", i)))
	}
	for b.Loop() {
		a.Sync(claims, nil)
	}
}

// Of several CIDRs of a family the first is used up first, and addresses of all can be
// demanded, held and given back.
func TestSeveralOfAFamily(t *testing.T) {
	a := newAllocator(t, "10.0.0.0/30", "fd00::/64", "10.9.0.0/30")
	if got := a.Families(); !slices.Equal(got, dual) {
		t.Errorf("families %v, want %v", got, dual)
	}
	claims := []Claim{claim("demands", "10.9.0.2")}
	for i := range 4 {
		claims = append(claims, claim(fmt.Sprint("s", i)))
		errs := a.Sync(claims, nil)
		checkInvariants(t, a)
		if len(errs) != max(0, i-2) {
			t.Fatalf("with %d more Services the errors are %v", i+1, errs)
		}
		if last := a.Held(service(fmt.Sprint("s", i))); i < 3 && (last[0] == netip.MustParseAddr("10.9.0.1")) != (i == 2) {
			t.Errorf("s%d holds %v", i, last)
		}
	}
	if err := a.Sync(claims, nil)[service("s3")]; err == nil || !strings.Contains(err.Error(), "no IPv4 ClusterIP is left in 10.0.0.0/30 fd00::/64 10.9.0.0/30") {
		t.Errorf("error when full: %v", err)
	}
	if errs := a.Sync(claims[2:], nil); len(errs) > 0 {
		t.Errorf("after two were deleted: %v", errs)
	}
	if errs := a.Restore(Allocations{service("outside"): addrs("10.8.0.1")}); len(errs) != 1 || !strings.Contains(errs[0].Error(), "10.8.0.1 is outside the service CIDR 10.0.0.0/30 fd00::/64 10.9.0.0/30") {
		t.Errorf("outside of all: %v", errs)
	}
}

func TestFitting(t *testing.T) {
	for _, c := range []struct {
		name            string
		ranges, outside []string
		held            string // by a Service, in one of the ranges
		lacking         []cluster.Family
		want            string
	}{
		{"kubeadm's", []string{"10.43.0.0/16"}, []string{"10.96.0.1", "10.96.0.10", "10.107.3.4", "10.111.9.9"}, "", nil, "[10.96.0.0/12]"},
		{"few addresses", []string{"10.43.0.0/16"}, []string{"172.20.0.10"}, "", nil, "[172.20.0.0/16]"},
		{"two clusters", []string{"10.43.0.0/16"}, []string{"172.20.0.10", "10.96.0.10"}, "", nil, "[10.96.0.0/16 172.20.0.0/16]"},
		{"besides what is in use", []string{"10.43.0.0/16"}, []string{"172.20.0.10"}, "10.43.0.9", nil, "[10.43.0.0/16 172.20.0.0/16]"},
		{"around what is in use", []string{"10.43.0.0/16"}, []string{"10.40.0.1", "10.47.0.1"}, "10.43.0.9", nil, "[10.40.0.0/13]"},
		{"both families", []string{"10.43.0.0/16"}, []string{"10.96.0.1", "fd00:96::1", "fd00:96::7:1"}, "", nil, "[10.96.0.0/16 fd00:96::/109]"},
		{"a family that is not there", []string{"10.43.0.0/16"}, nil, "", v6, "[10.43.0.0/16 fd00:43::/112]"},
		{"the default family stays", []string{"fd00::/64", "10.43.0.0/16"}, []string{"fd99::1"}, "10.43.0.9", nil, "[fd99::/112 10.43.0.0/16]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newAllocator(t, c.ranges...)
			if c.held != "" {
				a.Sync([]Claim{claim("held", c.held)}, nil)
			}
			var misfits []*Misfit
			for _, addr := range addrs(c.outside...) {
				misfits = append(misfits, &Misfit{Family: cluster.FamilyOf(addr), Addrs: []netip.Addr{addr}})
			}
			for _, family := range c.lacking {
				misfits = append(misfits, &Misfit{Family: family})
			}
			got := a.Fitting(misfits)
			if fmt.Sprint(got) != c.want {
				t.Errorf("%v, want %s", got, c.want)
			}
			if _, err := New(got); err != nil {
				t.Error(err)
			}
			for _, addr := range addrs(c.outside...) {
				if !slices.ContainsFunc(got, func(p netip.Prefix) bool { return p.Contains(addr) }) {
					t.Errorf("%s is in none of %v", addr, got)
				}
			}
		})
	}
}
