package kernelnat

import (
	"context"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/clusterip/clusterip/hostaddrs"
	"github.com/coredns/coredns/core/dnsserver"
)

// abandonTime bounds how long the end of the process waits for flows to be forgotten.
const abandonTime = 2 * time.Second

// abandon has the UDP flows to this process's own sockets forgotten, if the Services
// lead elsewhere by now. Those that are busy to the last would go on to where nobody is.
func (n *nat) abandon(own []netip.AddrPort) {
	controllers := n.writing.Load()
	if controllers == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), abandonTime)
	defer cancel()
	var done sync.WaitGroup
	for _, controller := range *controllers {
		done.Go(func() { controller.Abandon(ctx, own) })
	}
	done.Wait()
}

// listening returns where others find the sockets of a server block.
func listening(config *dnsserver.Config) []netip.AddrPort {
	port, err := strconv.ParseUint(config.Port, 10, 16)
	if err != nil {
		return nil
	}
	var own []netip.AddrPort
	for _, ip := range hostaddrs.Of(config.ListenHosts) {
		own = append(own, netip.AddrPortFrom(ip, uint16(port)))
	}
	return own
}
