package kubetest

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// ticks is USER_HZ, in which proc(5) counts processor time; it is 100 wherever
// Linux has been built for two decades.
const ticks = 100

// CPU is the processor time that the process has used, with its children that have
// ended.
func (p *Process) CPU() time.Duration {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	// The fields before are the pid and the command, which may hold anything.
	_, rest, _ := strings.Cut(string(text), ") ")
	var sum time.Duration
	for _, field := range strings.Fields(rest)[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		sum += time.Duration(n) * time.Second / ticks
	}
	return sum
}

// RSS is how much memory the process has resident, in MiB.
func (p *Process) RSS() int {
	p.t.Helper()
	return p.status("VmRSS")
}

// PeakRSS is the most that it has had resident, in MiB.
func (p *Process) PeakRSS() int {
	p.t.Helper()
	return p.status("VmHWM")
}

// status returns one of the sizes in /proc/PID/status, which are in KiB, in MiB.
func (p *Process) status(field string) int {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), field+":")
	number, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	kib, err := strconv.Atoi(number)
	if err != nil {
		p.t.Fatal(err)
	}
	return kib / 1024
}
