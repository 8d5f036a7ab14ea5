package clusterip

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/test/clustertest"
	"github.com/coredns/coredns/plugin/transfer"
	"github.com/miekg/dns"
)

// transferred returns the records in the order in which they are sent.
func transferred(t *testing.T, h *Handler, origin string, serial uint32) []dns.RR {
	t.Helper()
	pieces, err := h.Transfer(origin, serial)
	if err != nil {
		t.Fatal(err)
	}
	var all []dns.RR
	for piece := range pieces {
		all = append(all, piece...)
	}
	return all
}

// shape is the types of records in a row, with the owners of addresses, and SOAs
// as their distance from the present serial.
func shape(h *Handler, rrs []dns.RR) string {
	var words []string
	for _, rr := range rrs {
		switch rr := rr.(type) {
		case *dns.SOA:
			words = append(words, "SOA-"+string(rune('0'+h.serial()-rr.Serial)))
		default:
			words = append(words, dns.TypeToString[rr.Header().Rrtype]+":"+strings.SplitN(rr.Header().Name, ".", 2)[0])
		}
	}
	return strings.Join(words, " ")
}

func TestTransfer(t *testing.T) {
	h := testHandler()
	h.transfers(&transfer.Transfer{})
	defer h.close()
	web := example().Services[0]
	h.store.Apply(cluster.Update{Namespaces: []cluster.NamespaceUpdate{{Name: "new", Exists: true}}})
	h.store.Apply(cluster.Update{Services: clustertest.Gone("default/web")})
	h.store.Apply(cluster.Update{Services: []cluster.ServiceUpdate{web}})
	h.store.Apply(cluster.Update{Services: clustertest.Gone("default/web")})
	now := h.serial()
	all := transferred(t, h, "cluster.local.", 0)
	if got, want := shape(h, all[:4]), "SOA-0 NS:cluster A:ns TXT:dns-version"; got != want {
		t.Errorf("a transfer begins with %s, want %s", got, want)
	}
	if last := all[len(all)-1]; last.Header().Rrtype != dns.TypeSOA {
		t.Errorf("a transfer ends with %s, want the SOA", last)
	}
	for _, c := range []struct {
		what   string
		serial uint32
		want   string // "whole" for all
	}{
		{"the present serial", now, "SOA-0"},
		{"a later serial", now + 1, "SOA-0"},
		{"the last change", now - 1, "SOA-0 SOA-1 A:10-42-0-7 SRV:_http A:web SRV:web SOA-0 SOA-0"},
		{"changes that cancel out", now - 2, "SOA-0 SOA-2 SOA-0 SOA-0"},
		{"all changes", now - 3, "SOA-0 SOA-3 A:10-42-0-7 SRV:_http A:web SRV:web SOA-0 SOA-0"},
		{"where the journal begins", now - 4, "SOA-0 SOA-4 A:10-42-0-7 SRV:_http A:web SRV:web SOA-0 SOA-0"},
		{"before the journal", now - 5, "whole"},
		{"long before", now - 1<<30, "whole"},
		{"half the circle away, which RFC 1982 leaves open", now - 1<<31 + 1, "whole"},
	} {
		got := transferred(t, h, "cluster.local.", c.serial)
		text := shape(h, got)
		if len(got) == len(all) {
			text = "whole"
		}
		if text != c.want {
			t.Errorf("%s: got %s, want %s", c.what, text, c.want)
		}
	}
	if got := shape(h, transferred(t, h, "in-addr.arpa.", now-1)); got != "SOA-0 SOA-1 PTR:10 PTR:7 SOA-0 SOA-0" {
		t.Errorf("the reverse zone changed by %s", got)
	}
}

func TestNoTransfer(t *testing.T) {
	h := testHandler()
	for _, origin := range []string{"example.com.", "svc.cluster.local.", "10.in-addr.arpa.", "."} {
		if _, err := h.Transfer(origin, 0); !errors.Is(err, transfer.ErrNotAuthoritative) {
			t.Errorf("%s: error %v, want that it is not ours", origin, err)
		}
	}
	h = New(Options{Zones: []string{"cluster.local."}}, cluster.NewStore(), nil)
	if _, err := h.Transfer("cluster.local.", 0); err == nil || errors.Is(err, transfer.ErrNotAuthoritative) {
		t.Errorf("error %v before the first sync, want another than that it is not ours", err)
	}
}

// A transfer shows one moment, however long the client takes to read it.
func TestTransferIsOneMoment(t *testing.T) {
	h := testHandler()
	pieces, err := h.Transfer("cluster.local.", 0)
	if err != nil {
		t.Fatal(err)
	}
	var gone cluster.Update
	for _, u := range example().Services {
		gone.Services = append(gone.Services, cluster.ServiceUpdate{Name: u.Name})
	}
	h.store.Apply(gone)
	var owners []string
	for piece := range pieces {
		owners = append(owners, piece[0].Header().Name)
	}
	if !slices.Contains(owners, "web.default.svc.cluster.local.") {
		t.Errorf("what was there when the transfer began is missing from it: %v", owners)
	}
}
