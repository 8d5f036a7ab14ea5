package ipvs

import (
	"errors"
	"io/fs"
	"net/netip"

	"github.com/clusterip/clusterip/kernelnat"
	"golang.org/x/sys/unix"
)

// Connections implements kernelnat.Backend. nftables counts those of ports; those of endpoints are
// IPVS's, which is asked for the endpoints of each virtual server if endpoints are counted. The
// kernel brings those up to date every two seconds.
func (b *Backend) Connections() ([]kernelnat.Connections, error) {
	all, err := b.Backend.Connections()
	if err != nil {
		return nil, err
	}
	var out []kernelnat.Connections
	for _, counted := range all {
		if !b.servers.within.Contains(counted.Endpoint.Addr()) {
			out = append(out, counted)
			continue
		}
		for _, protocol := range protocols {
			of, err := b.counts.countsOf(id{counted.Endpoint, protocol}, counted)
			if err != nil {
				return nil, err
			}
			out = append(out, of...)
		}
	}
	return summed(out), nil
}

// countsOf returns the connections of a virtual server's endpoints, none if it is not there.
func (c *client) countsOf(of id, port kernelnat.Connections) (out []kernelnat.Connections, err error) {
	_, all, err := c.held(of)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, d := range all {
		port.Endpoint, port.Count = netip.AddrPortFrom(d.Address, d.Port), d.Stats64.Connections
		out = append(out, port)
	}
	return out, err
}

// summed has one count for each port and endpoint: a pool may have two virtual servers.
func summed(all []kernelnat.Connections) (out []kernelnat.Connections) {
	at := make(map[kernelnat.Connections]int, len(all))
	for _, c := range all {
		key := c
		key.Count = 0
		if i, there := at[key]; there {
			out[i].Count += c.Count
			continue
		}
		at[key], out = len(out), append(out, c)
	}
	return out
}
