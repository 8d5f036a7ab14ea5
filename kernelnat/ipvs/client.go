package ipvs

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"github.com/cloudflare/ipvs"
	"github.com/cloudflare/ipvs/netmask"
	"github.com/clusterip/clusterip/cluster"
	"golang.org/x/sys/unix"
)

// kernel is what is asked of IPVS, one message each.
type kernel interface {
	create(s *server) error
	remove(of id) error
	add(of id, r real) error
	weigh(of id, r real) error
	drop(of id, r real) error
	held(of id) (ipvs.ServiceExtended, []ipvs.DestinationExtended, error) // two
}

// client is a kernel over a netlink socket, which it opens when it is first used.
// Its methods may be called by any goroutine. The library cannot close a socket: the garbage
// collector does.
type client struct {
	opening  sync.Mutex
	socket   ipvs.Client
	messages atomic.Int64 // so many were sent
}

// errNotLoaded is that of a kernel without IPVS.
var errNotLoaded = errors.New("the kernel has no IPVS, or has not loaded it: modprobe ip_vs")

// errNoConntrack is that of a kernel whose IPVS is made without what the packets' way rests on.
var errNoConntrack = errors.New("this kernel's IPVS tells connection tracking nothing (CONFIG_IP_VS_NFCT): use another kernel, or another backend")

func (c *client) open() error {
	c.opening.Lock()
	defer c.opening.Unlock()
	if c.socket != nil {
		return nil
	}
	socket, err := ipvs.New()
	if errors.Is(err, fs.ErrNotExist) {
		return errNotLoaded
	}
	if err != nil {
		return fmt.Errorf("open a socket to IPVS: %w", err)
	}
	c.socket = socket
	return nil
}

func (c *client) send(message func(ipvs.Client) error) error {
	if err := c.open(); err != nil {
		return err
	}
	c.messages.Add(1)
	return message(c.socket)
}

func (c *client) create(s *server) error {
	err := c.send(func(k ipvs.Client) error { return k.CreateService(serviceOf(s.id, s.scheduler)) })
	if errors.Is(err, fs.ErrNotExist) {
		err = noScheduler(s.scheduler)
	}
	return of(s.id, "add", err)
}

// remove takes no offence at one that is not there.
func (c *client) remove(s id) error {
	err := c.send(func(k ipvs.Client) error { return k.RemoveService(serviceOf(s, "")) })
	if errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return of(s, "remove", err)
}

func (c *client) add(s id, r real) error {
	return of(s, "add "+r.at.String()+" to", c.send(func(k ipvs.Client) error { return k.CreateDestination(serviceOf(s, ""), destinationOf(r)) }))
}

func (c *client) weigh(s id, r real) error {
	return of(s, "give a weight to "+r.at.String()+" of", c.send(func(k ipvs.Client) error { return k.UpdateDestination(serviceOf(s, ""), destinationOf(r)) }))
}

func (c *client) drop(s id, r real) error {
	return of(s, "remove "+r.at.String()+" from", c.send(func(k ipvs.Client) error { return k.RemoveDestination(serviceOf(s, ""), destinationOf(r)) }))
}

func (c *client) held(s id) (held ipvs.ServiceExtended, all []ipvs.DestinationExtended, err error) {
	err = c.send(func(k ipvs.Client) (err error) { held, err = k.Service(serviceOf(s, "")); return err })
	if err == nil {
		all, err = c.destinations(serviceOf(s, ""))
	}
	return held, all, of(s, "read", err)
}

// destinations takes none for what they are: the library says that they do not exist.
func (c *client) destinations(of ipvs.Service) (all []ipvs.DestinationExtended, err error) {
	err = c.send(func(k ipvs.Client) (err error) { all, err = k.Destinations(of); return err })
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return all, err
}

func of(s id, what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s virtual server %s/%s: %w", what, s.at, s.protocol, err)
	}
	return nil
}

func serviceOf(s id, scheduler string) ipvs.Service {
	bits := s.at.Addr().BitLen()
	return ipvs.Service{Address: s.at.Addr(), Port: s.at.Port(), Protocol: ipvs.Protocol(s.protocol), Family: familyOf(s), Scheduler: scheduler, Netmask: netmask.MaskFrom(bits, bits)}
}

func familyOf(s id) ipvs.AddressFamily {
	if cluster.FamilyOf(s.at.Addr()) == cluster.IPv6 {
		return ipvs.INET6
	}
	return ipvs.INET
}

func destinationOf(r real) ipvs.Destination {
	return ipvs.Destination{Address: r.at.Addr(), Port: r.at.Port(), Weight: r.weight, FwdMethod: ipvs.Masquerade, Family: familyOf(id{at: r.at})}
}
