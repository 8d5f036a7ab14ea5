package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
)

// makeServers has every plugin but some read its part of a Corefile, and returns the servers,
// which do not start. Caddy itself only validates a Corefile, and makes no servers of it, or
// starts them. So this sets plugins up as caddy does, but goes on after an error: there are
// no servers then, and the error joins all that there are.
func makeServers(path string, parsed []caddyfile.ServerBlock, but ...string) ([]caddy.Server, error) {
	instance := caddy.NewTestController(serverType, "") // caddy has no other way to an instance
	parsed, err := instance.Context().InspectServerBlocks(path, parsed)
	if err != nil {
		return nil, fmt.Errorf("error inspecting server blocks: %w", err)
	}
	left := make(map[string]bool)
	for _, directive := range but {
		left[directive] = true
	}
	var errs []error
	without := make(map[int]bool) // blocks whose clusterip has failed, which kernelnat would miss
	for _, directive := range dnsserver.Directives {
		for i, block := range parsed {
			tokens, ok := block.Tokens[directive]
			if !ok || left[directive] || directive == "kernelnat" && without[i] {
				continue
			}
			setup, err := caddy.DirectiveAction(serverType, directive)
			if err != nil {
				return nil, err
			}
			c := *instance
			c.Dispenser = caddyfile.NewDispenserTokens(path, tokens)
			c.Key, c.ServerBlockKeys, c.ServerBlockIndex = block.Keys[0], block.Keys, i
			if err := setup(&c); err != nil {
				errs = append(errs, placed(err, path, tokens))
				without[i] = without[i] || directive == "clusterip"
			}
		}
	}
	if len(errs) > 0 || len(but) > 0 {
		return nil, errors.Join(errs...)
	}
	return instance.Context().MakeServers()
}

// placed is the error of a plugin that does not say where in the Corefile it is, with the place
// of its directive.
func placed(err error, path string, tokens []caddyfile.Token) error {
	place := linesOf(path, tokens)[0].place
	file := place[:strings.LastIndexByte(place, ':')+1]
	if strings.Contains(err.Error(), file) {
		return err
	}
	return fmt.Errorf("%s: %w", place, err)
}
