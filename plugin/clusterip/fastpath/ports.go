package fastpath

import (
	"slices"
	"sync"
)

// ports know who is in the reuseport group of each address, in the kernel's order: CoreDNS's
// socket first, and then ours as they have joined. A socket that closes leaves its place to
// the last one.
var ports = reuseports{byAddress: make(map[string][]*member)}

type reuseports struct {
	mu        sync.Mutex
	byAddress map[string][]*member
}

// member is a socket in a reuseport group; CoreDNS's has no Group.
type member struct {
	group  *Group
	socket *socket
}

// join opens the sockets of a Group.
func (p *reuseports) join(g *Group) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.byAddress[g.address]) == 0 {
		p.byAddress[g.address] = []*member{{}}
	}
	for range g.options.Threads {
		s, err := openSocket(g.address)
		if err != nil {
			p.close(g)
			return err
		}
		g.sockets = append(g.sockets, s)
		p.byAddress[g.address] = append(p.byAddress[g.address], &member{g, s})
	}
	return nil
}

// leave closes the sockets of a Group, to which no packets go any more. CoreDNS's socket, whose
// place never changes, takes all packets meanwhile.
func (p *reuseports) leave(g *Group) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := g.sockets[0].steer(0, 1); err != nil {
		return err
	}
	p.close(g)
	return p.steerLocked(g.address)
}

func (p *reuseports) close(g *Group) {
	all := p.byAddress[g.address]
	for {
		i := slices.IndexFunc(all, func(m *member) bool { return m.group == g })
		if i < 0 {
			break
		}
		all[i].socket.conn.Close()
		all[i] = all[len(all)-1]
		all = all[:len(all)-1]
	}
	if p.byAddress[g.address] = all; len(all) == 1 {
		delete(p.byAddress, g.address)
	}
}

// steer has the packets at an address go to the Group that was opened last and is not to
// end, else to CoreDNS.
func (p *reuseports) steer(address string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.steerLocked(address)
}

func (p *reuseports) steerLocked(address string) error {
	all := p.byAddress[address]
	if len(all) < 2 {
		return nil // ours have gone
	}
	first, n := 0, 1
	for i := len(all) - 1; i > 0; i-- {
		if g := all[i].group; !g.ending.Load() {
			first, n = i, 1
			for first > 1 && all[first-1].group == g {
				first, n = first-1, n+1
			}
			break
		}
	}
	return all[1].socket.steer(first, n)
}
