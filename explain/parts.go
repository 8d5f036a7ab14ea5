package explain

import "slices"

// Storage is what a server keeps for its directives, as caddy.Controller has it.
type Storage interface {
	Get(key any) any
	Set(key, value any)
}

// serverKey is the key under which the storage of a server has its parts.
type serverKey struct{}

// Server has the parts of a server's blocks. Directives fill them in when they are set up,
// before the server starts; afterwards nobody changes them.
type Server struct {
	blocks []int
	parts  []*Parts
}

// ServerOf returns that of a server, which begins empty.
func ServerOf(s Storage) *Server {
	if found, ok := s.Get(serverKey{}).(*Server); ok {
		return found
	}
	out := new(Server)
	s.Set(serverKey{}, out)
	return out
}

// Block returns the parts of a server block, by its number in the Corefile.
func (s *Server) Block(number int) *Parts {
	at := slices.Index(s.blocks, number)
	if at < 0 {
		at, s.blocks, s.parts = len(s.blocks), append(s.blocks, number), append(s.parts, new(Parts))
	}
	return s.parts[at]
}

// Parts returns those of all server blocks.
func (s *Server) Parts() []*Parts { return s.parts }
