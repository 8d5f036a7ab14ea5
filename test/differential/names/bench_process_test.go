package names

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/clusterip/clusterip/test/kubetest"
	"golang.org/x/sys/unix"
)

// family is a process with those that it has forked, which are known by what they have
// inherited: the parent of some has ended.
type family struct {
	*kubetest.Process
	t    *testing.T
	mark string // in their environment
}

var families int

func startFamily(t *testing.T, command []string) *family {
	t.Helper()
	families++
	f := &family{t: t, mark: fmt.Sprintf("CLUSTERIP_BENCH=%d-%d", os.Getpid(), families)}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), f.mark)
	f.Process = kubetest.StartOn(t, nil, cmd)
	return f
}

// stop ends them at once.
func (f *family) stop() {
	f.t.Helper()
	members := f.members()
	f.Stop(unix.SIGKILL)
	for _, pid := range members {
		unix.Kill(pid, unix.SIGKILL)
	}
}

func (f *family) members() []int {
	f.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		f.t.Fatal(err)
	}
	var out []int
	for _, file := range files {
		// What has ended meanwhile, or is another user's, is not a member.
		if text, _ := os.ReadFile(file); bytes.Contains(text, []byte(f.mark+"\x00")) {
			pid, _ := strconv.Atoi(strings.Split(file, "/")[2])
			out = append(out, pid)
		}
	}
	return out
}

// memory is what they have resident and had at most, in MiB. What several share counts once;
// their most is then not known, and is what they have.
func (f *family) memory() (now, most int) {
	f.t.Helper()
	members := f.members()
	if len(members) == 1 {
		return f.RSS(), f.PeakRSS()
	}
	kib := 0
	for _, pid := range members {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		_, rest, _ := strings.Cut(string(text), "\nPss:")
		n, _ := strconv.Atoi(strings.Fields(rest + " 0")[0])
		kib += n
	}
	return kib / 1024, kib / 1024
}

// pin has all threads run on one processor.
func (f *family) pin(cpu int) {
	f.t.Helper()
	var set unix.CPUSet
	set.Set(cpu)
	for _, pid := range f.members() {
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, thread := range threads {
			tid, _ := strconv.Atoi(thread.Name())
			if err := unix.SchedSetaffinity(tid, &set); err != nil && err != unix.ESRCH {
				f.t.Fatal(err)
			}
		}
	}
}

// meter tells how much processor time a family takes: user, system and softirq.
//
// A packet on the loopback is received by the softirq of who sends it, in the time of that
// process: the server pays for what its answers cost at the client's sockets, in place of
// what the questions cost at its own. Both go the same way. What the kernel does in time
// that belongs to neither is shared by the two.
type meter struct {
	pids, kernel []int
	softirq      bool // softirqs are in no process's time
}

func (f *family) meter() *meter {
	m := &meter{pids: f.members(), softirq: softirqApart()}
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, name := range names {
		if text, _ := os.ReadFile(name); strings.HasPrefix(string(text), "ksoftirqd/") {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			m.kernel = append(m.kernel, pid)
		}
	}
	return m
}

// used is the processor time until now.
func (m *meter) used() time.Duration {
	var own, shared time.Duration
	for _, pid := range m.pids {
		own += processTime(pid)
	}
	for _, pid := range m.kernel {
		shared += processTime(pid)
	}
	if m.softirq {
		text, _ := os.ReadFile("/proc/stat")
		if fields := strings.Fields(string(text)); len(fields) > 7 {
			n, _ := strconv.Atoi(fields[7]) // in ticks of 10 ms
			shared += time.Duration(n) * 10 * time.Millisecond
		}
	}
	return own + shared/2
}

// processTime is what the scheduler has counted for all threads of a process, also those
// that have ended; 0 if it has ended itself.
func processTime(pid int) time.Duration {
	const scheduler = 2 // CPUCLOCK_SCHED, as clock_getcpuclockid(3) makes them
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|scheduler), &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// softirqApart reports whether the kernel keeps the time of softirqs apart from that of
// processes, as one with CONFIG_IRQ_TIME_ACCOUNTING does.
func softirqApart() bool {
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	if text, err := os.ReadFile("/boot/config-" + strings.TrimSpace(string(release))); err == nil {
		return strings.Contains(string(text), "\nCONFIG_IRQ_TIME_ACCOUNTING=y\n")
	}
	text, _ := exec.Command("zcat", "/proc/config.gz").Output()
	return strings.Contains(string(text), "\nCONFIG_IRQ_TIME_ACCOUNTING=y\n")
}
