package backendtest

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/kernelnat/nattest"
	"golang.org/x/sys/unix"
)

// One-to-one SCTP sockets are used as TCP's are (RFC 6458 section 4).
func (s *suite) sctp() {
	const protocol = unix.IPPROTO_SCTP
	if err := s.node.Do(func() error { return probe(protocol) }); err != nil {
		s.Skipf("needs a kernel with SCTP: %v", err)
	}
	s.families(func(s *suite, family cluster.Family) {
		pod := s.pods[0]
		to := netip.AddrPortFrom(pod.Addr(family), targetPort)
		var l net.Listener
		s.must(pod.Do(func() (err error) {
			l, err = listen(protocol, to)
			return err
		}))
		pod.Serve(l, func(conn net.Conn) { fmt.Fprintln(conn, pod.Name) })
		port := s.port(cluster.SCTP, 80, family, pod)
		s.sync(named("echo", port))
		if name := s.askStream(protocol, s.client, port.Frontend); name != pod.Name {
			s.Errorf("%q answers", name)
		}
	})
}

func probe(protocol int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

// askStream connects and returns the first line that the server sends.
func (s *suite) askStream(protocol int, from *nattest.Host, to netip.AddrPort) string {
	s.Helper()
	var name string
	s.must(from.Do(func() error {
		f, err := socket(protocol, to)
		if err != nil {
			return err
		}
		defer f.Close()
		timeout := unix.NsecToTimeval(patience.Nanoseconds())
		for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} {
			if err := unix.SetsockoptTimeval(int(f.Fd()), unix.SOL_SOCKET, option, &timeout); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
		}
		if err := unix.Connect(int(f.Fd()), sockaddr(to)); err != nil {
			return os.NewSyscallError("connect", err)
		}
		_, err = fmt.Fscanln(f, &name)
		return err
	}))
	return name
}

func listen(protocol int, on netip.AddrPort) (net.Listener, error) {
	f, err := socket(protocol, on)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Bind(int(f.Fd()), sockaddr(on)); err != nil {
		return nil, os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(int(f.Fd()), 16); err != nil {
		return nil, os.NewSyscallError("listen", err)
	}
	return net.FileListener(f)
}

func socket(protocol int, a netip.AddrPort) (*os.File, error) {
	family := unix.AF_INET
	if a.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return os.NewFile(uintptr(fd), "socket"), nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}
