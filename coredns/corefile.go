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

// parse reads the server blocks of a Corefile.
func parse(input caddy.Input) ([]caddyfile.ServerBlock, error) {
	return caddyfile.Parse(input.Path(), bytes.NewReader(input.Body()), dnsserver.Directives)
}

// block is what one server block of a Corefile says about Services.
type block struct {
	names clusterip.Options
	nat   kernelnat.Options // the defaults without kernelnat
	// hasNAT says that there is a kernelnat.
	hasNAT bool
}

// blocks returns the server blocks that have clusterip, those with faults left out. The
// error joins all faults of both our directives.
func blocks(path string, parsed []caddyfile.ServerBlock) (out []block, err error) {
	var errs []error
	var first *block // that has a kernelnat
	for _, server := range parsed {
		b, ok, err := blockOf(path, server)
		switch {
		case !b.hasNAT:
		case first == nil:
			first = &b
		default:
			err = errors.Join(err, b.nat.Errorf("", kernelnat.Twice, first.nat.Place()))
		}
		if err != nil {
			errs = append(errs, err)
		} else if ok {
			out = append(out, b)
		}
	}
	return out, errors.Join(errs...)
}

// blockOf returns what a server block says about Services; ok is false if it says nothing.
func blockOf(path string, server caddyfile.ServerBlock) (b block, ok bool, err error) {
	var errNames, errNAT error
	_, ok = server.Tokens["clusterip"]
	_, b.hasNAT = server.Tokens["kernelnat"]
	if ok {
		b.names, errNames = clusterip.ParseOptions(stanzaOf(path, server, "clusterip"), root(server))
	}
	b.nat, errNAT = kernelnat.ParseOptions(stanzaOf(path, server, "kernelnat"))
	err = errors.Join(errNames, errNAT)
	// What kernelnat would refuse in its setup, which coredns rules does not run.
	switch {
	case b.hasNAT && !ok:
		err = errors.Join(err, b.nat.Errorf("", kernelnat.NoSource))
	case b.hasNAT && errNames == nil:
		if _, refused := b.names.Origin().Accept(feed.Needs{Node: b.nat.NodeName}); refused != nil {
			err = errors.Join(err, fmt.Errorf("%s: clusterip: %w", b.names.Place("labels", "namespace_labels", "noendpoints"), refused))
		}
	}
	return b, ok, err
}

// stanzaOf returns a controller that stands on a directive of a server block.
func stanzaOf(path string, server caddyfile.ServerBlock, directive string) *caddy.Controller {
	return &caddy.Controller{
		Dispenser:       caddyfile.NewDispenserTokens(path, server.Tokens[directive]),
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
