package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
)

// autopathFaults says what keeps autopath from what it is for, though CoreDNS takes it: it
// finds the search path of a client by its Pod, and its answers are for that client alone.
func autopathFaults(path string, server caddyfile.ServerBlock) (all []string) {
	lines := linesOf(path, server.Tokens["autopath"])
	if len(lines) == 0 || len(server.Tokens["clusterip"]) == 0 {
		return nil
	}
	words := lines[0].words
	if len(words) < 2 || words[len(words)-1] != "@clusterip" && words[len(words)-1] != "@kubernetes" {
		return nil // with a search path from a file, answers are the same for all
	}
	if !slices.ContainsFunc(linesOf(path, server.Tokens["clusterip"]), func(l line) bool { return slices.Equal(l.words, []string{"pods", "verified"}) }) {
		all = append(all, fmt.Sprintf("%s: autopath has no effect without pods verified: it finds the search path of a client by its Pod. Add pods verified to clusterip, or take autopath out", lines[0].place))
	}
	zones := normal(words[1:len(words)-1], server.Keys)
	for _, cache := range cacheOf(path, server) {
		if cached := cache.has(zones); cached != "" {
			all = append(all, fmt.Sprintf("%s: cache keeps what autopath has answered to a client of one namespace, and gives it to those of others, who ask for the same name in %s and are to hear that there is none. Write disable success %[2]s and disable denial %[2]s into its block, or take autopath out", cache.place, strings.TrimSuffix(cached, ".")))
		}
	}
	return all
}

// cached are the zones whose answers a cache keeps.
type cached struct {
	place string
	zones []string
	// Those of which no answers, or no denials, are kept.
	success, denial []string
}

// has returns a zone of which answers are kept that are in one of some zones, or "".
func (c cached) has(zones []string) string {
	for _, z := range zones {
		kept := slices.ContainsFunc(c.zones, func(of string) bool { return plugin.Name(of).Matches(z) || plugin.Name(z).Matches(of) })
		in := func(of string) bool { return plugin.Name(of).Matches(z) }
		if kept && !(slices.ContainsFunc(c.success, in) && slices.ContainsFunc(c.denial, in)) {
			return z
		}
	}
	return ""
}

// cacheOf reads the cache directive of a server block as CoreDNS does, if there is one:
// cache [TTL] [ZONES...] { disable success|denial [ZONES...] }.
func cacheOf(path string, server caddyfile.ServerBlock) []cached {
	lines := linesOf(path, server.Tokens["cache"])
	if len(lines) == 0 {
		return nil
	}
	words := lines[0].words[1:]
	if len(words) > 0 {
		if _, err := strconv.Atoi(words[0]); err == nil {
			words = words[1:]
		}
	}
	c := cached{place: lines[0].place, zones: normal(words, server.Keys)}
	for _, l := range lines[1:] {
		switch {
		case len(l.words) < 2 || l.words[0] != "disable":
		case l.words[1] == "success":
			c.success = append(c.success, normal(l.words[2:], c.zones)...)
		case l.words[1] == "denial":
			c.denial = append(c.denial, normal(l.words[2:], c.zones)...)
		}
	}
	return []cached{c}
}

func normal(zones, otherwise []string) []string {
	return plugin.OriginsFromArgsOrServerBlock(zones, otherwise)
}

// line is one line of a directive, without braces.
type line struct {
	place string
	words []string
}

func linesOf(path string, tokens []caddyfile.Token) (all []line) {
	var last caddyfile.Token
	for _, t := range tokens {
		if t.Text == "{" || t.Text == "}" {
			continue
		}
		if len(all) == 0 || t.Line != last.Line || t.File != last.File {
			file := t.File // "" unless it is imported
			if file == "" {
				file = path
			}
			all = append(all, line{place: fmt.Sprintf("%s:%d", file, t.Line)})
		}
		last = t
		all[len(all)-1].words = append(all[len(all)-1].words, t.Text)
	}
	return all
}
