package ipvs

import (
	"net"
	"net/netip"
	"testing"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/netlab"
	"github.com/vishvananda/netlink"
)

// Both families may look at the addresses of kube-ipvs0 before one of them removes any: the link goes
// with the last one all the same, and not before.
func TestProxyLinkGoesWithItsLastAddress(t *testing.T) {
	netlab.Require(t)
	host, err := netlab.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	err = host.Do(func() error {
		link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: proxyLink}} // not every kernel has dummies
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		for _, text := range []string{"10.43.0.7", "fd00:10:43::7"} {
			addr := netip.MustParseAddr(text)
			if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}}); err != nil {
				return err
			}
		}
		seen, err := netlink.AddrList(link, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for i, family := range cluster.Families {
			p := &proxyServers{family: family, link: link, addresses: seen}
			if err := p.removeAddresses(); err != nil {
				return err
			}
			if _, err := netlink.LinkByName(proxyLink); (err == nil) != (i == 0) {
				t.Errorf("after %s: looking for the link ends with %v", family, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
