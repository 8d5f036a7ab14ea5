package conntrack

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Sysctls are settings of the kernel's connection tracking that a node with many
// connections needs (nf_conntrack-sysctl). A zero leaves the kernel's value.
type Sysctls struct {
	// MaxPerCore times the number of processors, Min at least and a million at
	// most, is how many connections are tracked; a larger limit stays.
	MaxPerCore, Min int
	// How long an idle connection is remembered, in whole seconds.
	TCPEstablished, TCPCloseWait, UDP, UDPStream time.Duration
	// TCPLiberal lets packets outside the window count as part of their
	// connection.
	TCPLiberal bool
}

// DefaultSysctls are kube-proxy's defaults.
var DefaultSysctls = Sysctls{MaxPerCore: 32 << 10, Min: 128 << 10, TCPEstablished: 24 * time.Hour, TCPCloseWait: time.Hour}

// maxTracked bounds the memory that a machine with many processors would spend.
const maxTracked = 1 << 20

// sysctls has those of the network namespace of who reads it.
const sysctls = "/proc/sys/net/netfilter"

// Set applies the settings and returns those it changed, as "name=value". It goes
// on after an error: a container may write some of them and not others.
func (s Sysctls) Set() (changed []string, err error) {
	return s.set(sysctls, "/sys/module/nf_conntrack/parameters")
}

func (s Sysctls) set(netfilter, module string) (changed []string, err error) {
	w := &writer{}
	if limit := s.Limit(runtime.NumCPU()); limit > 0 && w.raise(filepath.Join(netfilter, "nf_conntrack_max"), limit) {
		// The table is the machine's, whatever the network namespace; whoever
		// may set the limit is in the first one.
		w.raise(filepath.Join(module, "hashsize"), limit/4)
	}
	for name, timeout := range map[string]time.Duration{
		"nf_conntrack_tcp_timeout_established": s.TCPEstablished,
		"nf_conntrack_tcp_timeout_close_wait":  s.TCPCloseWait,
		"nf_conntrack_udp_timeout":             s.UDP,
		"nf_conntrack_udp_timeout_stream":      s.UDPStream,
	} {
		if timeout > 0 {
			w.write(filepath.Join(netfilter, name), int(timeout/time.Second))
		}
	}
	if s.TCPLiberal {
		w.write(filepath.Join(netfilter, "nf_conntrack_tcp_be_liberal"), 1)
	}
	return w.changed, errors.Join(w.errs...)
}

// Limit is how many connections are to be tracked on a machine with so many processors, or
// 0 for as many as the kernel says.
func (s Sysctls) Limit(processors int) int {
	if s.MaxPerCore == 0 {
		return 0
	}
	return min(max(s.MaxPerCore*processors, s.Min), maxTracked)
}

// writer notes what it changed and what it could not.
type writer struct {
	changed []string
	errs    []error
}

// raise writes a value unless a larger one is there, and reports whether it did.
func (w *writer) raise(file string, value int) bool {
	return readNumber(file) < value && w.write(file, value)
}

func (w *writer) write(file string, value int) bool {
	if readNumber(file) == value {
		return true
	}
	if err := os.WriteFile(file, []byte(strconv.Itoa(value)), 0); err != nil {
		w.errs = append(w.errs, fmt.Errorf("set %s to %d: %w", file, value, err))
		return false
	}
	w.changed = append(w.changed, fmt.Sprintf("%s=%d", filepath.Base(file), value))
	return true
}

// readNumber returns -1 for what cannot be read.
func readNumber(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return -1
	}
	value, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return -1
	}
	return value
}
