package ipvs

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
)

// listing has all virtual servers of both families with all their endpoints, in one read
// (net/netfilter/ipvs/ip_vs_ctl.c, ip_vs_info_seq_show): over netlink it takes a listing for each.
// It is that of the thread's network namespace, where /proc/net is that of the first thread.
const listing = "/proc/thread-self/net/ip_vs"

// readHeld returns the virtual servers of a range. There are none where there is no IPVS.
func readHeld(within netip.Prefix) (map[id]*server, error) {
	held := make(map[id]*server)
	err := readEach(within, func(s *server) bool {
		held[s.id] = &server{id: s.id, scheduler: s.scheduler, reals: slices.Clone(s.reals)}
		return true
	})
	if err != nil {
		return nil, err
	}
	return held, nil
}

// holds reports whether these are all virtual servers of a range.
func holds(within netip.Prefix, all map[id]*server) (bool, error) {
	c := comparison{all: all}
	err := readEach(within, c.see)
	return err == nil && c.equal(), err
}

// comparison finds out whether virtual servers that are seen one by one, each once, are these.
type comparison struct {
	all   map[id]*server
	same  int
	other bool // one that is not among them, or not so
}

func (c *comparison) see(s *server) (more bool) {
	if held := c.all[s.id]; held == nil || !held.equal(s) {
		c.other = true
		return false
	}
	c.same++
	return true
}

func (c *comparison) equal() bool { return !c.other && c.same == len(c.all) }

// readEach has a function see the virtual servers of a range one by one, until it has seen enough.
// It is not to keep them.
func readEach(within netip.Prefix, see func(*server) (more bool)) error {
	file, err := os.Open(listing)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if err := parseEach(file, within, see); err != nil {
		return fmt.Errorf("read %s: %w", listing, err)
	}
	return nil
}

// parseEach is readEach. Lines that it does not know are others', or its head.
func parseEach(r io.Reader, within netip.Prefix, see func(*server) (more bool)) error {
	var now server // no address: not in the range
	seen := func() bool {
		if !now.at.IsValid() {
			return true
		}
		slices.SortFunc(now.reals, compareReals) // the kernel has them in the order in which they came
		now.reals = slices.CompactFunc(now.reals, func(a, b real) bool { return a.at == b.at })
		return see(&now)
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		first, rest := field(lines.Bytes())
		second, rest := field(rest)
		third, rest := field(rest)
		if len(third) == 0 {
			continue
		}
		if string(first) != "->" {
			if !seen() {
				return nil
			}
			now.id, now.reals = idIn(first, second, within), now.reals[:0]
			if string(third) != now.scheduler { // mostly many have the same
				now.scheduler = string(third)
			}
			continue
		}
		fourth, _ := field(rest)
		if !now.at.IsValid() || len(fourth) == 0 {
			continue
		}
		at, ok := parseAddrPort(second)
		weight, err := strconv.ParseUint(string(fourth), 10, 31)
		if !ok || err != nil {
			return fmt.Errorf("line %q has no endpoint: this version does not know the format", lines.Text())
		}
		now.reals = append(now.reals, real{at, uint32(weight)})
	}
	if err := lines.Err(); err != nil {
		return err
	}
	seen()
	return nil
}

// field returns the first word of a line, empty if there is none, and what follows it.
func field(line []byte) (word, rest []byte) {
	line = bytes.TrimLeft(line, " ")
	if end := bytes.IndexByte(line, ' '); end >= 0 {
		return line[:end], line[end:]
	}
	return line, nil
}

// idIn returns that of a line with a virtual server, without an address if it is not in a range.
func idIn(protocol, text []byte, within netip.Prefix) (of id) {
	for _, p := range protocols {
		if p.String() == string(protocol) {
			of.protocol = p
		}
	}
	if at, ok := parseAddrPort(text); ok && of.protocol != 0 && within.Contains(at.Addr()) {
		of.at = at
	}
	return of
}

// parseAddrPort reads 0A2A0031:162E or [fd00:0010:0042:0000:0000:0000:0000:0049]:162E.
func parseAddrPort(text []byte) (at netip.AddrPort, ok bool) {
	colon := bytes.LastIndexByte(text, ':')
	if colon < 0 {
		return at, false
	}
	port, err := strconv.ParseUint(string(text[colon+1:]), 16, 16)
	if err != nil {
		return at, false
	}
	var addr netip.Addr
	if inside, is6 := bytes.CutPrefix(text[:colon], []byte("[")); is6 {
		addr, err = netip.ParseAddr(string(bytes.TrimSuffix(inside, []byte("]"))))
	} else {
		var four [4]byte
		if len(inside) != hex.EncodedLen(len(four)) {
			return at, false
		}
		_, err = hex.Decode(four[:], inside)
		addr = netip.AddrFrom4(four)
	}
	return netip.AddrPortFrom(addr, uint16(port)), err == nil
}
