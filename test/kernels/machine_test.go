package kernels

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const programLimit = 15 * time.Minute

// machine is what is emulated, without KVM: so it runs wherever the tests do.
type machine struct {
	kernel, initramfs string
	nic               string        // QEMU's option -nic
	limit             time.Duration // of its program
}

// The network of a machine: none, or one in which it reaches this machine's loopback.
const (
	noNetwork   = "none"
	userNetwork = "user,model=virtio-net-pci"
)

// run boots the machine, which runs a program and ends, and returns what that has written.
// dir is for its serial lines.
func (m machine) run(ctx context.Context, dir string, program ...string) (output string, err error) {
	// A program ends itself before its machine is ended, and shows where it hangs.
	limit := m.limit + 2*time.Minute
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	console, line := filepath.Join(dir, "console"), filepath.Join(dir, "output")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", m.nic,
		"-serial", "file:"+console, "-serial", "file:"+line,
		"-kernel", m.kernel, "-initrd", m.initramfs,
		// A kernel with a fault panics, and so it reboots, which ends QEMU. On a busy host the timer may
		// seem to be broken when Linux 5.10 tries it.
		"-append", "console=ttyS0 quiet no_timer_check oops=panic panic=-1 -- "+strings.Join(program, " "))
	// The signal comes when the thread that started QEMU ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	said, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = fmt.Errorf("the machine was ended after %v: %w", limit, ctx.Err())
	}
	// QEMU makes both files when it starts.
	written, lineErr := os.ReadFile(line)
	kernelSaid, consoleErr := os.ReadFile(console)
	output, ended, found := strings.Cut(strings.ReplaceAll(string(written), "\r\n", "\n"), "\nguest: ended ")
	switch {
	case err != nil || lineErr != nil || consoleErr != nil || !found:
		dead := errors.New("the machine did not live to the end of its program")
		return output, fmt.Errorf("%w\n%s\nits console:\n%s", errors.Join(dead, err, lineErr, consoleErr), said, kernelSaid)
	case ended != "as it should\n":
		return output, fmt.Errorf("the program ended: %s\nconsole:\n%s", ended, kernelSaid)
	}
	return output, nil
}
