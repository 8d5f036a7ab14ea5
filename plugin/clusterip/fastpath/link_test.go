package fastpath

import (
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
)

// inNamespace has a test run once more in a network namespace of its own, and reports whether this is that run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	const inside = "FASTPATH_TEST_NAMESPACE"
	if os.Getenv(inside) == t.Name() {
		return true
	}
	if os.Getuid() != 0 {
		t.Skip("only root makes network namespaces")
	}
	again := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	again.Env = append(os.Environ(), inside+"="+t.Name())
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := again.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// TestLinkLocal asks from and at link-local addresses of IPv6, which mean nothing without their interface: two have the
// same.
func TestLinkLocal(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, name := range []string{"link0", "link1"} {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "peer"}); err != nil {
			t.Fatal(err)
		}
		for _, end := range []string{name, name + "peer"} {
			up(t, end)
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		address, err := netlink.ParseAddr("fe80::53/64")
		if err != nil {
			t.Fatal(err)
		}
		address.Flags = syscall.IFA_F_NODAD
		if err := netlink.AddrAdd(link, address); err != nil {
			t.Fatal(err)
		}
	}
	up(t, "lo")
	for _, name := range []string{"link0", "link1"} {
		waitFor(t, func() bool { // an address is tentative until its link is ready
			link, err := netlink.LinkByName(name)
			if err != nil {
				t.Fatal(err)
			}
			addresses, err := netlink.AddrList(link, netlink.FAMILY_V6)
			return err == nil && !slices.ContainsFunc(addresses, func(a netlink.Addr) bool { return a.Flags&syscall.IFA_F_TENTATIVE != 0 })
		})
	}
	for what, bind := range map[string]string{"wildcard": ":0", "address": "[fe80::53%link1]:0"} {
		t.Run(what, func(t *testing.T) {
			address := standIn(t, bind)
			o := options(true)
			o.Chain = func(w dns.ResponseWriter, r *dns.Msg) {
				if zone := w.RemoteAddr().(*net.UDPAddr).Zone; zone != "link1" {
					t.Errorf("the chain is asked from the interface %q", zone)
				}
				handler(byChain)(w, r)
			}
			open(t, address, o)
			_, port, _ := net.SplitHostPort(address)
			conn := dial(t, "[fe80::53%link1]:"+port)
			for id, want := range map[uint16]int{1: byAnswerer, 2: byChain} {
				if who := ask(t, conn, id, question(int(id))); who != want {
					t.Errorf("%d has answered, want %d", who, want)
				}
			}
		})
	}
}

func up(t *testing.T, name string) {
	t.Helper()
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = netlink.LinkSetUp(link)
	}
	if err != nil {
		t.Fatal(err)
	}
}
