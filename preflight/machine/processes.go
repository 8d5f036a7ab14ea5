package machine

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/preflight"
	"github.com/prometheus/procfs"
)

// ownThread is where the kernel shows the network namespace of the calling thread; /proc/net
// is that of the first one.
const ownThread = "/proc/thread-self"

// The states of a socket that listens, or is bound (tcp_states.h; UDP uses them too).
const (
	tcpListen = 10
	udpBound  = 7
)

// sockets looks for those that listen at some ports, for the lock of kernelnat, and for who
// has them.
func sockets(m *preflight.Machine, ports map[uint16]bool) error {
	proc, err := procfs.NewFS(ownThread)
	if err != nil {
		return fmt.Errorf("look at sockets: %w", err)
	}
	l := &listening{Machine: m, ports: ports}
	if err := l.tcp(proc); err != nil {
		return fmt.Errorf("look at TCP sockets: %w", err)
	}
	if err := l.udp(proc); err != nil {
		return fmt.Errorf("look at UDP sockets: %w", err)
	}
	lock, err := lockOf(proc)
	if err != nil {
		return fmt.Errorf("look at Unix sockets: %w", err)
	}
	if len(l.inodes) == 0 && lock == 0 {
		return nil // nobody need be looked for
	}
	owners := ownersOf(append(slices.Clone(l.inodes), lock)...)
	for i := range m.Sockets {
		m.Sockets[i].By = owners[l.inodes[i]]
	}
	if lock != 0 {
		if m.Running = owners[lock]; m.Running == nil {
			m.Running = new(preflight.Process) // in another PID namespace
		}
	}
	return nil
}

// listening gathers the sockets of a machine.
type listening struct {
	*preflight.Machine
	ports  map[uint16]bool // the only ones that matter
	inodes []uint64        // of Sockets
}

func (l *listening) add(udp bool, addr []byte, port, inode uint64) {
	if ip, ok := netip.AddrFromSlice(addr); ok && l.ports[uint16(port)] {
		l.Sockets = append(l.Sockets, preflight.Socket{UDP: udp, At: netip.AddrPortFrom(ip.Unmap(), uint16(port))})
		l.inodes = append(l.inodes, inode)
	}
}

func (l *listening) tcp(proc procfs.FS) error {
	//nolint:staticcheck // deprecated, but what is to take its place needs a module of the kernel, tcp_diag, and asking for it loads that
	for _, read := range []func() (procfs.NetTCP, error){proc.NetTCP, proc.NetTCP6} {
		list, err := read()
		if err != nil && !os.IsNotExist(err) { // IPv6 may be off
			return err
		}
		for _, s := range list {
			if s.St == tcpListen {
				l.add(false, s.LocalAddr, s.LocalPort, s.Inode)
			}
		}
	}
	return nil
}

func (l *listening) udp(proc procfs.FS) error {
	for _, read := range []func() (procfs.NetUDP, error){proc.NetUDP, proc.NetUDP6} {
		list, err := read()
		if err != nil && !os.IsNotExist(err) {
			return err
		}
		for _, s := range list {
			if s.St == udpBound {
				l.add(true, s.LocalAddr, s.LocalPort, s.Inode)
			}
		}
	}
	return nil
}

// lockOf returns the inode of the lock of kernelnat, or 0 if nobody has it.
func lockOf(proc procfs.FS) (inode uint64, err error) {
	local, err := proc.NetUNIX()
	if err != nil {
		return 0, err
	}
	for _, s := range local.Rows {
		if s.Path == kernelnat.LockName && s.Flags != 0 { // it listens; the others wait for its end
			return s.Inode, nil
		}
	}
	return 0, nil
}

// ownersOf returns which processes have some sockets. Those of others are for root to see,
// and those in other PID namespaces for nobody.
func ownersOf(inodes ...uint64) map[uint64]*preflight.Process {
	owners := make(map[uint64]*preflight.Process, len(inodes)) // nil for those that are not found
	for _, inode := range inodes {
		owners[inode] = nil
	}
	all, _ := procfs.AllProcs()
	for _, p := range all {
		targets, _ := p.FileDescriptorTargets()
		for _, t := range targets {
			number, isSocket := strings.CutPrefix(t, "socket:[")
			inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
			if owner, asked := owners[inode]; isSocket && err == nil && asked && owner == nil {
				owners[inode] = process(p)
			}
		}
	}
	return owners
}

func process(p procfs.Proc) *preflight.Process {
	name, _ := p.Comm()
	executable, _ := p.Executable()
	return &preflight.Process{ID: p.PID, Name: name, Executable: executable}
}

// proxies looks for kube-proxies in this network namespace.
func proxies(m *preflight.Machine) error {
	pids, err := netfilter.Proxies()
	for _, pid := range pids {
		if p, err := procfs.NewProc(pid); err == nil { // or it has ended
			m.Proxies = append(m.Proxies, *process(p))
		}
	}
	return err
}
