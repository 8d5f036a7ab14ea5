package fastpath

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// steer has the kernel choose among the sockets of the reuseport group of fd by their places in it, which is the order
// in which they joined: CPU n that receives a packet gives it to the n-th of them, modulo their number. The program
// belongs to the group, not to the socket, and stays when the socket closes. Where it names a place that is not
// taken, the kernel chooses among all sockets by hash.
func steer(fd int, places []int) error {
	program := steering(places)
	filter := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, &filter); err != nil {
		return fmt.Errorf("SO_ATTACH_REUSEPORT_CBPF: %w", err)
	}
	return nil
}

// cpu is where a program of the kernel's reads the number of the CPU that it runs on: SKF_AD_OFF + SKF_AD_CPU.
const cpu = 0xfffff000 + 36

// steering is the program: the CPU modulo the number of places, and the place that has this number.
func steering(places []int) []unix.SockFilter {
	last := len(places) - 1
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: cpu},
		{Code: unix.BPF_ALU | unix.BPF_MOD | unix.BPF_K, K: uint32(len(places))},
	}
	for i, place := range places[:last] {
		program = append(program,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(i), Jf: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(place)})
	}
	return append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(places[last])})
}

// settle returns when every packet for which the kernel has chosen a socket is in the queue of that socket. The kernel
// chooses and queues within one section that reads under RCU, and membarrier waits for all of those.
func settle() {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	if _, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0); errno != 0 {
		// A seccomp profile or a kernel with nohz_full refuses it. A packet is between the two for microseconds.
		time.Sleep(100 * time.Millisecond)
	}
}

// maxThreads is what a program can name: it has at most 4,096 instructions.
const maxThreads = 1024
