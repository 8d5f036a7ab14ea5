package ipvs

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/clusterip/clusterip/cluster"
)

// listing has all virtual servers of both families with all their endpoints, in one read
// (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show): over netlink it takes a listing for each.
// It is that of the thread's network namespace, where /proc/net is that of the first thread.
const listing = "/proc/thread-self/net/ip_vs"

// readHeld returns the virtual servers of a range. There are none where there is no IPVS.
func readHeld(within netip.Prefix) (map[id]*server, error) {
	file, err := os.Open(listing)
	if errors.Is(err, fs.ErrNotExist) {
		return make(map[id]*server), nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	held, err := parseHeld(file, within)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", listing, err)
	}
	return held, nil
}

// parseHeld reads the virtual servers of a range. Lines that it does not know are others', or
// its head.
func parseHeld(r io.Reader, within netip.Prefix) (map[id]*server, error) {
	held := make(map[id]*server)
	var now *server // nil: not in the range
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 {
			continue
		}
		if fields[0] != "->" {
			if now = serverIn(fields, within); now != nil {
				held[now.id] = now
			}
			continue
		}
		if now == nil || len(fields) < 4 {
			continue
		}
		at, ok := parseAddrPort(fields[1])
		weight, err := strconv.ParseUint(fields[3], 10, 31)
		if !ok || err != nil {
			return nil, fmt.Errorf("line %q has no endpoint: this version does not know the format", lines.Text())
		}
		now.reals = append(now.reals, real{at, uint32(weight)})
	}
	for _, s := range held {
		slices.SortFunc(s.reals, compareReals) // the kernel has them in the order in which they came
		s.reals = slices.CompactFunc(s.reals, func(a, b real) bool { return a.at == b.at })
	}
	return held, lines.Err()
}

// serverIn returns the one that a line is about, if it is in a range.
func serverIn(fields []string, within netip.Prefix) *server {
	protocol, known := map[string]cluster.Protocol{"TCP": cluster.TCP, "UDP": cluster.UDP, "SCTP": cluster.SCTP}[fields[0]]
	at, ok := parseAddrPort(fields[1])
	if !known || !ok || !within.Contains(at.Addr()) {
		return nil
	}
	return &server{id: id{at, protocol}, scheduler: fields[2]}
}

// parseAddrPort reads 0A2A0031:162E or [fd00:0010:0042:0000:0000:0000:0000:0049]:162E.
func parseAddrPort(text string) (at netip.AddrPort, ok bool) {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return at, false
	}
	port, err := strconv.ParseUint(text[colon+1:], 16, 16)
	if err != nil {
		return at, false
	}
	var addr netip.Addr
	if inside, is6 := strings.CutPrefix(text[:colon], "["); is6 {
		addr, err = netip.ParseAddr(strings.TrimSuffix(inside, "]"))
	} else {
		var bytes []byte
		bytes, err = hex.DecodeString(inside)
		if addr, ok = netip.AddrFromSlice(bytes); err == nil && (!ok || !addr.Is4()) {
			return at, false
		}
	}
	return netip.AddrPortFrom(addr, uint16(port)), err == nil && addr.IsValid()
}
