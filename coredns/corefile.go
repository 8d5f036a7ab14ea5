package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/clusterip/clusterip/cluster/feed"
	"github.com/clusterip/clusterip/corefile"
	"github.com/clusterip/clusterip/plugin/clusterip"
	"github.com/clusterip/clusterip/plugin/kernelnat"
	"github.com/coredns/caddy"
	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
)

const serverType = "dns"

// loadDefault is what CoreDNS does without -conf, for caddy.
func loadDefault(string) (caddy.Input, error) {
	input, example, err := defaultCorefile()
	if example != "" {
		caddy.OnProcessExit = append(caddy.OnProcessExit, func() { os.RemoveAll(example) })
		fmt.Fprintf(os.Stderr, "No Corefile here and no -conf: serving the example in %s until this ends; edit it and ask again.\n", example)
	}
	return input, err
}

// defaultCorefile loads ./Corefile, or else the built-in example, unpacked where it can
// be edited. The example runs in its own folder, as it does from corefile/standalone: its
// relative paths hold, and a reload finds the Corefile there. The caller removes that
// folder, which is "" without the example.
func defaultCorefile() (input caddy.Input, example string, err error) {
	input, err = readCorefile(caddy.DefaultConfigFile)
	if !errors.Is(err, fs.ErrNotExist) {
		return input, "", err
	}
	if example, err = os.MkdirTemp("", "clusterip-"); err != nil {
		return nil, "", fmt.Errorf("unpack the example Corefile: %w", err)
	}
	if err := errors.Join(os.CopyFS(example, corefile.Standalone()), os.Chdir(example)); err != nil {
		os.RemoveAll(example)
		return nil, "", fmt.Errorf("unpack the example Corefile: %w", err)
	}
	input, err = readCorefile(caddy.DefaultConfigFile)
	return input, example, err
}

func readCorefile(path string) (caddy.Input, error) {
	contents, err := os.ReadFile(filepath.Clean(path))
	if err != nil {
		return nil, err
	}
	return caddy.CaddyfileInput{Contents: contents, Filepath: path, ServerTypeName: serverType}, nil
}

// mustExist says what to do about a -conf that leads nowhere. It does not read the
// file, which may be a pipe.
func mustExist(conf string) error {
	if _, err := os.Stat(conf); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: give -conf a Corefile that exists, or leave it out for ./Corefile", err)
	}
	return nil
}

// confFlag adds CoreDNS's -conf to a subcommand.
func confFlag(flags *flag.FlagSet) *string {
	return flags.String("conf", "", "Corefile to read (default: ./Corefile, or else the built-in example)")
}

// subcommandCorefile loads the Corefile that the server would load. The caller calls done
// when it has read what that names.
func subcommandCorefile(conf string) (input caddy.Input, done func(), err error) {
	if conf != "" {
		if err = mustExist(conf); err == nil {
			input, err = readCorefile(conf)
		}
		return input, func() {}, err
	}
	input, example, err := defaultCorefile()
	if example != "" {
		fmt.Fprintln(os.Stderr, "No Corefile here and no -conf: this is about the built-in example.")
	}
	return input, func() { os.RemoveAll(example) }, err
}

// block is what one server block of a Corefile says about Services.
type block struct {
	names clusterip.Options
	nat   kernelnat.Options // the defaults without kernelnat
	// hasNAT says that there is a kernelnat.
	hasNAT bool
}

// blocks returns the server blocks that have clusterip. It is an error if another
// has kernelnat.
func blocks(input caddy.Input) ([]block, error) {
	parsed, err := serverBlocks(input)
	if err != nil {
		return nil, err
	}
	var out []block
	for _, server := range parsed {
		stanza := func(directive string) *caddy.Controller { return stanzaOf(input, server, directive) }
		if _, ok := server.Tokens["clusterip"]; !ok {
			// What the plugin itself would refuse in its setup, which coredns rules
			// does not run.
			if nat := stanza("kernelnat"); nat.Next() {
				return nil, plugin.Error("kernelnat", nat.Err("there is no clusterip in this server block: add it, kernelnat takes its Services from there"))
			}
			continue
		}
		var b block
		if b.names, err = clusterip.ParseOptions(stanza("clusterip"), root(server)); err != nil {
			return nil, err
		}
		nat := stanza("kernelnat")
		if b.nat, err = kernelnat.ParseOptions(nat); err != nil {
			return nil, err
		}
		if _, b.hasNAT = server.Tokens["kernelnat"]; b.hasNAT {
			// This too.
			if _, err := b.names.Origin().Accept(feed.Needs{Node: b.nat.NodeName}); err != nil {
				return nil, plugin.Error("kernelnat", nat.Err(err.Error()))
			}
		}
		out = append(out, b)
	}
	return out, nil
}

// serverBlocks returns those of a Corefile, whose directives are not read yet.
func serverBlocks(input caddy.Input) ([]caddyfile.ServerBlock, error) {
	return caddyfile.Parse(input.Path(), bytes.NewReader(input.Body()), dnsserver.Directives)
}

// stanzaOf returns a controller that stands on a directive of a server block.
func stanzaOf(input caddy.Input, server caddyfile.ServerBlock, directive string) *caddy.Controller {
	return &caddy.Controller{
		Dispenser:       caddyfile.NewDispenserTokens(input.Path(), server.Tokens[directive]),
		ServerBlockKeys: server.Keys,
	}
}

// root is the folder that the root directive of a server block names, or "".
func root(server caddyfile.ServerBlock) string {
	if tokens := server.Tokens["root"]; len(tokens) == 2 {
		return tokens[1].Text
	}
	return ""
}
