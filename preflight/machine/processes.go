package machine

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/clusterip/clusterip/hostaddrs"
	"github.com/clusterip/clusterip/kernelnat"
	"github.com/clusterip/clusterip/kernelnat/netfilter"
	"github.com/clusterip/clusterip/preflight"
	"github.com/prometheus/procfs"
)

// sockets looks for those that listen at some ports, for the lock of kernelnat, and for who
// has them.
func sockets(m *preflight.Machine, ports map[uint16]bool) error {
	all, err := hostaddrs.Sockets(ports)
	if err != nil {
		return err
	}
	lock, err := lockHolder()
	if err != nil {
		return fmt.Errorf("look at Unix sockets: %w", err)
	}
	if len(all) == 0 && lock == 0 {
		return nil // nobody need be looked for
	}
	inodes := []uint64{lock}
	for _, s := range all {
		inodes = append(inodes, s.Inode)
	}
	owners := ownersOf(inodes...)
	for _, s := range all {
		m.Sockets = append(m.Sockets, preflight.Socket{UDP: s.UDP, At: s.At, By: owners[s.Inode]})
	}
	if lock != 0 {
		if m.Running = owners[lock]; m.Running == nil {
			m.Running = new(preflight.Process) // in another PID namespace
		}
	}
	return nil
}

// lockHolder returns the inode of the lock of kernelnat, or 0 if nobody has it.
func lockHolder() (inode uint64, err error) {
	proc, err := procfs.NewFS("/proc/thread-self") // /proc/net is that of the first thread
	if err != nil {
		return 0, err
	}
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
