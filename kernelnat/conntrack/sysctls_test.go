package conntrack

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSysctlsSet(t *testing.T) {
	dir := t.TempDir()
	give := func(name, value string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	give("nf_conntrack_max", "1000")
	give("hashsize", "250")
	give("nf_conntrack_tcp_timeout_established", "432000")
	give("nf_conntrack_tcp_timeout_close_wait", "3600")
	give("nf_conntrack_tcp_be_liberal", "0")
	s := DefaultSysctls
	s.MaxPerCore, s.Min, s.TCPLiberal = 1, 4000, true
	changed, err := s.set(dir, dir)
	slices.Sort(changed)
	want := []string{"hashsize=1000", "nf_conntrack_max=4000", "nf_conntrack_tcp_be_liberal=1", "nf_conntrack_tcp_timeout_established=86400"}
	if err != nil || !slices.Equal(changed, want) {
		t.Errorf("changed %v, %v; want %v", changed, err, want)
	}
	if changed, err := s.set(dir, dir); len(changed) > 0 || err != nil {
		t.Errorf("the second time it changed %v, %v", changed, err)
	}
	give("nf_conntrack_max", "9000")
	if changed, err := s.set(dir, dir); len(changed) > 0 || err != nil {
		t.Errorf("a larger limit did not stay: %v, %v", changed, err)
	}
	// A file that is not there cannot be written either, with these rights.
	s = Sysctls{UDP: time.Minute, TCPCloseWait: 2 * time.Hour}
	changed, err = s.set(filepath.Join(dir, "missing"), dir)
	if err == nil || len(changed) > 0 || strings.Count(err.Error(), "no such file") != 2 {
		t.Errorf("changed %v, %v", changed, err)
	}
}

func TestSysctlsLimit(t *testing.T) {
	for _, c := range []struct {
		s          Sysctls
		processors int
		want       int
	}{
		{DefaultSysctls, 2, 131072}, {DefaultSysctls, 8, 262144}, {DefaultSysctls, 128, maxTracked}, {Sysctls{Min: 5}, 2, 0},
	} {
		if got := c.s.Limit(c.processors); got != c.want {
			t.Errorf("%+v on %d processors: %d, want %d", c.s, c.processors, got, c.want)
		}
	}
}
