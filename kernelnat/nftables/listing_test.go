package nftables

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/test/debian"
)

// Every nft that a suite of Debian's has lists our tables, beside those of iptables, as text
// and as JSON: some versions crash on what others write. `make kernels` runs this.
func TestEveryNftLists(t *testing.T) {
	if os.Getenv("KERNELS") == "" {
		t.Skip("fetches programs of other suites of Debian's: make kernels runs it")
	}
	h := newHost(t)
	for _, family := range cluster.Families {
		h.synced(stateOf(family), family)
		client := map[cluster.Family]string{cluster.IPv4: "10.42.0.99", cluster.IPv6: "fd00:10:42::99"}[family]
		h.nft("add element "+language{family}.ip()+" clusterip clients { d000:2000 . "+client+" timeout 1h : d000:2001 }", "-f", "-")
	}
	h.do(exec.Command("iptables-nft", "-t", "nat", "-A", "PREROUTING", "-m", "comment", "--comment", "somebody's", "-j", "ACCEPT").Run)
	for _, suite := range []debian.Suite{"bullseye", "bookworm", "trixie", "sid"} {
		t.Run(string(suite), func(t *testing.T) {
			nft, err := fetchNft(suite)
			if err != nil {
				t.Fatal(err)
			}
			for _, args := range [][]string{{"--version"}, {"list", "ruleset"}, {"-j", "list", "ruleset"}} {
				cmd := exec.Command(nft[0], append(nft[1:len(nft):len(nft)], args...)...)
				var out []byte
				if err := h.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
					t.Fatalf("nft %q: %v\n%s", args, err, out)
				}
				if args[0] == "--version" {
					t.Logf("%s", out)
				} else if text := string(out); strings.Count(text, "testing/sticky:http") < 2 || !strings.Contains(text, "10.42.0.12") || !strings.Contains(text, "fd00:10:42::99") {
					t.Errorf("nft %q leaves something out:\n%s", args, text)
				}
			}
		})
	}
}

// fetchNft returns the command that runs the nft of a suite, with its own libraries.
func fetchNft(suite debian.Suite) ([]string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "clusterip", "nft", string(suite))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		libraries := func(name string) bool { return name == "nftables" || strings.HasPrefix(name, "lib") }
		if err := suite.Unpack(dir+".new", "nftables", libraries); err != nil {
			return nil, err
		}
		if err := os.Rename(dir+".new", dir); err != nil {
			return nil, err
		}
	}
	var folders []string
	loader := ""
	for _, f := range []string{"lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"} {
		f = filepath.Join(dir, f)
		folders = append(folders, f)
		if l := filepath.Join(f, "ld-linux-x86-64.so.2"); loader == "" {
			if _, err := os.Stat(l); err == nil {
				loader = l
			}
		}
	}
	return []string{loader, "--library-path", strings.Join(folders, ":"), filepath.Join(dir, "usr/sbin/nft")}, nil
}
