package kernelnat

import (
	"fmt"
	"strconv"
	"time"
)

// conntrackOptions are named as kube-proxy's flags are.
var conntrackOptions = []option{
	{"conntrack_max_per_core", func(o *Options, args []string) error { return parseCount(&o.Sysctls.MaxPerCore, args) }},
	{"conntrack_min", func(o *Options, args []string) error { return parseCount(&o.Sysctls.Min, args) }},
	{"conntrack_tcp_timeout_established", timeout(func(o *Options) *time.Duration { return &o.Sysctls.TCPEstablished })},
	{"conntrack_tcp_timeout_close_wait", timeout(func(o *Options) *time.Duration { return &o.Sysctls.TCPCloseWait })},
	{"conntrack_udp_timeout", timeout(func(o *Options) *time.Duration { return &o.Sysctls.UDP })},
	{"conntrack_udp_timeout_stream", timeout(func(o *Options) *time.Duration { return &o.Sysctls.UDPStream })},
	{"conntrack_tcp_be_liberal", func(o *Options, args []string) error {
		o.Sysctls.TCPLiberal = true
		return noArguments(args)
	}},
}

func timeout(field func(*Options) *time.Duration) func(*Options, []string) error {
	return func(o *Options, args []string) error { return parseDuration(field(o), args) }
}

func parseCount(to *int, args []string) error {
	text, err := oneArgument(args, "a number of connections, or 0 to leave the kernel's value")
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return fmt.Errorf("%q is not a number of connections, nor 0", text)
	}
	*to = int(n)
	return nil
}
