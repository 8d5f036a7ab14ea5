package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a Unix socket that root and the user of this process may connect to, and nobody
// else: its mode says so, and each connection is looked at.
type socket struct {
	path    string
	place   string // of the directive
	handler http.Handler

	mu      sync.Mutex
	server  *http.Server // nil: closed
	clients *clients     // of the server
	inode   uint64       // of the socket at path when it was opened
}

// open serves at the path, in place of a server before a reload or of a process that has ended.
// Where it cannot, the names and NAT go on without.
func (s *socket) open() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut()
	if err := s.listen(); err != nil {
		log.Errorf("%s: coredns explain cannot ask this process: %v", s.place, err)
	}
	return nil
}

// listen makes the socket under another name, since there must be no moment in which it has
// another mode, nor one without a socket during a reload.
func (s *socket) listen() error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return fmt.Errorf("make the folder of the socket %s: %w: give admin a path that this user may write, or create the folder (systemd: RuntimeDirectory=clusterip)", s.path, pathless(err))
	}
	if err := Obstacle(s.path); err != nil {
		return err
	}
	fresh := fmt.Sprintf("%s.%d", s.path, os.Getpid())
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s.unmade(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return s.unmade(err)
	}
	l.SetUnlinkOnClose(false) // the path may be another's by then
	var of unix.Stat_t
	err = errors.Join(os.Chmod(fresh, 0o600), unix.Stat(fresh, &of), os.Rename(fresh, s.path))
	if err != nil {
		l.Close()
		os.Remove(fresh)
		return s.unmade(err)
	}
	s.inode = of.Ino
	s.clients = &clients{answered: make(map[net.Conn]bool)}
	s.server = &http.Server{
		Handler: s.clients.note(s.handler), ConnContext: withConn, ConnState: s.clients.state,
		ReadTimeout: patience, WriteTimeout: patience, IdleTimeout: patience, MaxHeaderBytes: 8 << 10,
	}
	s.server.RegisterOnShutdown(s.clients.endWaiting)
	go s.server.Serve(trusted{l})
	return nil
}

// unmade says why there is no socket.
func (s *socket) unmade(err error) error {
	return fmt.Errorf("make the socket %s: %w: give admin a path that this user may write", s.path, pathless(err))
}

// pathless leaves the name out under which a socket is made: nobody has chosen it.
func pathless(err error) error {
	if errno, is := errors.AsType[unix.Errno](err); is {
		return errno
	}
	return err
}

// Obstacle says what is in the place of a socket, nil for nothing or a socket.
func Obstacle(path string) error {
	if at, err := os.Lstat(path); err == nil && at.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there, and is no socket: remove it, or give admin another path", path)
	}
	return nil
}

// patience is how long a client may take.
const patience = 30 * time.Second

// lastAnswers is how long those may take that are on their way when the server ends.
const lastAnswers = time.Second

// shut ends the server, if there is one.
func (s *socket) shut() {
	if s.server == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
	defer cancel()
	if s.server.Shutdown(ctx) != nil {
		s.server.Close()
	}
	s.server = nil
}

// close ends the server. The path stays: by now it may lead to the one after a reload.
func (s *socket) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut()
	return nil
}

// remove ends the server with the process, and removes the socket if it is still this one's.
func (s *socket) remove() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut()
	var now unix.Stat_t
	if err := unix.Stat(s.path, &now); err == nil && now.Ino == s.inode {
		os.Remove(s.path)
	}
	return nil
}

// trusted accepts connections of root and of this process's user alone.
type trusted struct{ *net.UnixListener }

func (t trusted) Accept() (net.Conn, error) {
	for {
		conn, err := t.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, err := peer(conn)
		if err == nil && (uid == 0 || uid == uint32(os.Geteuid())) {
			return conn, nil
		}
		log.Warningf("a connection of user %d to the admin socket is refused: %v", uid, err)
		conn.Close()
	}
}

// peer returns the user of the process that has connected.
func peer(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var credentials *unix.Ucred
	var failed error
	if err := raw.Control(func(fd uintptr) {
		credentials, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || failed != nil {
		return 0, errors.Join(err, failed)
	}
	return credentials.Uid, nil
}
