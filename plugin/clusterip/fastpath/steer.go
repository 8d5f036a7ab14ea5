package fastpath

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// cpu is where a classic BPF program finds the number of the CPU that it runs on: the
// extension SKF_AD_CPU in linux/filter.h.
const cpu = 0xfffff000 + 36

// steer has packets for the reuseport group of a socket go to n of its sockets, from the
// one that joined first after others (0 is the first of all), by the CPU that a packet comes
// in on. While there is no such socket, the kernel shares packets out among all.
func (s *socket) steer(first, n int) error {
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: cpu},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(n)},
		{Code: unix.BPF_ALU | unix.BPF_ADD | unix.BPF_K, K: uint32(first)},
		{Code: unix.BPF_RET | unix.BPF_A},
	}
	err := control(s.raw, func(fd int) error {
		return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	if err != nil {
		return fmt.Errorf("choose who of a reuseport group gets packets: %w", err)
	}
	return nil
}

// awaitPackets returns when packets that were steered somewhere before are there. The kernel
// steers and delivers a packet in one read-side section of RCU, and this system call waits
// until those that have begun are over (membarrier(2), MEMBARRIER_CMD_GLOBAL).
func awaitPackets() {
	const global = 1
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		time.Sleep(20 * time.Millisecond) // longer than the kernel has a packet in hand
	}
}
