package netfilter

import (
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/google/nftables"
)

// Others' writes to the tables are heard of, with who it was; ours, and those to other
// tables, are not.
func TestWatch(t *testing.T) {
	h := newHost(t)
	heard := make(chan string, 10)
	var w *Watch
	var own *nftables.Conn
	h.do(t, func() (err error) {
		if w, err = NewWatch(cluster.IPv4, []string{"watched"}); err != nil {
			return err
		}
		own, err = nftables.New(nftables.AsLasting())
		return err
	})
	ended := make(chan error, 1)
	go func() { ended <- w.Run(func(by string) { heard <- by }) }()
	h.nft(t, "add table ip6 watched")
	h.nft(t, "add table ip other")
	own.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "watched"})
	if err := own.Flush(); err != nil {
		t.Fatal(err)
	}
	h.nft(t, "add chain ip watched c")
	if by := <-heard; !strings.HasPrefix(by, "nft (process ") {
		t.Errorf("heard of a write by %q", by)
	}
	h.nft(t, "delete table ip watched")
	if by := <-heard; !strings.HasPrefix(by, "nft (process ") {
		t.Errorf("heard of a write by %q", by)
	}
	if len(heard) > 0 {
		t.Errorf("heard of a write by %q as well", <-heard)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
