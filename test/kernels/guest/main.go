// Command guest is process 1 of a machine that test/kernels boots. It makes the file
// systems and the loopback that programs expect, runs the program in its arguments, whose
// output goes out of the second serial line, and switches the machine off. Its last line
// there says how the program ended; without that line the kernel did not live to the end.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Everything the program is told besides its arguments.
var environment = []string{
	"PATH=/usr/sbin:/sbin:/usr/bin:/bin",
	"E2E_REQUIRED=1",
	"IPVS_REQUIRED=1",
	"COREDNS=/coredns",
	// Of these there is something in some machines only.
	"PEERS_REQUIRED=1",
	"PEERS=/peers",
	"OUTSIDE_KUBECONFIG=/kubeconfig",
}

// modules are those that rules of nftables need. The kernel would load them by itself, one
// after the other, while a program waits for its first rules: in an emulated machine that
// takes seconds. Linux 5.10 does not load ip_vs by itself.
// Those of the last line have something in each network namespace, and are not loaded while one ends. On
// Linux 5.10 that takes for ever where IPVS has had an endpoint on the node itself: the loopback stays in use.
// What a kernel does not have as a module it has built in, or lacks.
var modules = []string{
	"nf_tables", "nf_conntrack", "nf_nat", "nft_ct", "nft_chain_nat", "nft_nat", "nft_masq", "nft_numgen", "nft_hash", "nft_fib",
	"nft_fib_ipv4", "nft_fib_ipv6", "nft_reject", "nft_reject_ipv4", "nft_reject_ipv6", "nft_counter",
	"ip_vs",
	"virtio_pci", "virtio_net", // for those that reach the machine outside
	"nf_conntrack_netlink", "ip_vs_lblc", "ip_vs_lblcr", "ip_set",
}

// outside is the machine's address in QEMU's user network, if it has a link there.
const outside, outsideLink = "10.0.2.15/24", "eth0"

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the first process of a machine that test/kernels boots")
		os.Exit(2)
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("guest:", err) // on the console, which is the first line
	}
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func run(argv []string) error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	line, err := os.OpenFile("/dev/ttyS1", os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	// Process 1 has no PATH.
	if out, err := exec.Command("/sbin/modprobe", append([]string{"-a", "-q"}, modules...)...).CombinedOutput(); len(out) > 0 {
		fmt.Printf("guest: modprobe: %v\n%s", err, out)
	}
	if err := setUpLinks(); err != nil {
		return fmt.Errorf("the network: %w", err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env, cmd.Stdout, cmd.Stderr = environment, line, line
	ended := "as it should"
	if err := cmd.Run(); err != nil {
		ended = strings.ReplaceAll(err.Error(), "\n", " ")
	}
	if _, err := fmt.Fprintf(line, "\nguest: ended %s\n", ended); err != nil {
		return err
	}
	return unix.IoctlSetInt(int(line.Fd()), unix.TCSBRK, 1) // until all has been sent
}

func setUpLinks() error {
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(loopback); err != nil {
		return err
	}
	link, err := netlink.LinkByName(outsideLink)
	if _, none := errors.AsType[netlink.LinkNotFoundError](err); none {
		return nil
	}
	if err != nil {
		return err
	}
	addr, err := netlink.ParseAddr(outside)
	if err != nil {
		return err
	}
	return errors.Join(netlink.AddrAdd(link, addr), netlink.LinkSetUp(link))
}
