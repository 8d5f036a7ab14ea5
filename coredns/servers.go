package main

import (
	"bytes"
	"fmt"

	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
)

// makeServers has every plugin read its part of a Corefile, and returns the servers, which
// do not start. Caddy itself only validates a Corefile, and makes no servers of it, or starts
// them. So this sets plugins up as caddy does.
func makeServers(input caddy.Input) ([]caddy.Server, error) {
	parsed, err := caddyfile.Parse(input.Path(), bytes.NewReader(input.Body()), dnsserver.Directives)
	if err != nil {
		return nil, err
	}
	instance := caddy.NewTestController(serverType, "") // caddy has no other way to an instance
	if parsed, err = instance.Context().InspectServerBlocks(input.Path(), parsed); err != nil {
		return nil, fmt.Errorf("error inspecting server blocks: %w", err)
	}
	for _, directive := range dnsserver.Directives {
		for i, block := range parsed {
			tokens, ok := block.Tokens[directive]
			if !ok {
				continue
			}
			setup, err := caddy.DirectiveAction(serverType, directive)
			if err != nil {
				return nil, err
			}
			c := *instance
			c.Dispenser = caddyfile.NewDispenserTokens(input.Path(), tokens)
			c.Key, c.ServerBlockKeys, c.ServerBlockIndex = block.Keys[0], block.Keys, i
			if err := setup(&c); err != nil {
				return nil, err
			}
		}
	}
	return instance.Context().MakeServers()
}
