package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/cluster/manifest"
	"github.com/clusterip/clusterip/explain"
	"github.com/clusterip/clusterip/plugin/admin"
	"github.com/clusterip/clusterip/plugin/clusterip"
	"github.com/clusterip/clusterip/plugin/kernelnat"
	"github.com/clusterip/clusterip/status"
	"github.com/clusterip/clusterip/status/text"
	"github.com/coredns/caddy"
	"github.com/miekg/dns"
	"golang.org/x/term"
)

// explainTimeout bounds how long an answer may take. A subcommand that reads an API server
// waits for startup_timeout of that.
const explainTimeout = time.Minute

// runExplain says whether a name, an address or a Service works, and why not. It asks the
// process that runs or, where none answers, reads what the Corefile names.
func runExplain(flags *flag.FlagSet, args []string) int {
	conf := flags.String("conf", "", "Corefile whose process is asked or, where none answers, which is read (default: ask at "+explain.DefaultSocket+", else ./Corefile, else the built-in example)")
	withExitCodes(flags)
	var q explain.Question
	flags.StringVar(&q.Namespace, "namespace", "", "`namespace` that short names are looked up from (default: that of -from, or that of the search list in /etc/resolv.conf, or default)")
	flags.StringVar(&q.From, "from", "", "`client`: an IP address, or a Pod as NAMESPACE/NAME")
	write := writeExplanation
	flags.Func("o", "`format`, text or json (default text)", func(format string) error {
		known := map[string]func(*status.Explanation) error{"text": writeExplanation, "json": writeExplanationJSON}[format]
		if known == nil {
			return errors.New("the formats are text and json")
		}
		write = known
		return nil
	})
	targets, code, ok := parseArguments(flags, args)
	if !ok {
		return code
	}
	if len(targets) != 1 {
		fmt.Fprintf(flags.Output(), "give one target: %s\n", status.Forms)
		flags.Usage()
		return 2
	}
	q.Target, q.Search = strings.TrimSpace(targets[0]), searchList()
	ctx, cancel := context.WithTimeout(context.Background(), explainTimeout)
	defer cancel()
	e, err := explainFrom(ctx, *conf, q)
	if errors.As(err, new(explain.QuestionError)) {
		fmt.Fprintf(os.Stderr, "explain: %v\n", err)
		return 2
	}
	if err == nil {
		err = write(&e)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "explain: %v\n", err)
		return 1
	}
	if !e.Works {
		return 1
	}
	return 0
}

// withExitCodes has the usage say what the exit codes mean.
func withExitCodes(flags *flag.FlagSet) {
	usage := flags.Usage
	flags.Usage = func() {
		usage()
		fmt.Fprintln(flags.Output(), "It exits with 0 if the target works, 1 if it does not or nobody could be asked, and 2 for wrong usage.")
	}
}

// searchList is that of this machine; without one short names are those of a namespace.
func searchList() []string {
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	return conf.Search
}

// explainFrom asks the process whose socket the Corefile names. Without a Corefile given it is
// the one at the usual place.
func explainFrom(ctx context.Context, conf string, q explain.Question) (e status.Explanation, err error) {
	var usual error // why nobody answers at the usual place
	if conf == "" {
		if e, err = explain.Ask(ctx, explain.DefaultSocket, q); !errors.Is(err, explain.ErrNoProcess) {
			tellUnread()
			return e, err
		}
		usual = err
	}
	input, done, err := subcommandCorefile(conf)
	defer done()
	if err != nil {
		return e, err
	}
	socket, err := adminSocket(input)
	if err != nil {
		return e, err
	}
	why := usual
	if socket != "" && (conf != "" || socket != explain.DefaultSocket) {
		if e, why = explain.Ask(ctx, socket, q); !errors.Is(why, explain.ErrNoProcess) {
			return e, why
		}
	}
	// Without the directive no socket is what one expects.
	if why != nil && (socket != "" || !errors.Is(why, fs.ErrNotExist)) {
		fmt.Fprintf(os.Stderr, "%v: reading what %s names; if a process runs, its log says why it has no socket there\n", why, input.Path())
	}
	return explainOffline(ctx, input, q)
}

// tellUnread says that a Corefile here has no say: the process may have been started with another.
func tellUnread() {
	if _, err := os.Stat(caddy.DefaultConfigFile); err == nil {
		fmt.Fprintf(os.Stderr, "The process at %s is asked, and ./%s is not read: -conf ./%s asks about that.\n", explain.DefaultSocket, caddy.DefaultConfigFile, caddy.DefaultConfigFile)
	}
}

// explainOffline reads what a Corefile names, as the server would start with it.
func explainOffline(ctx context.Context, input caddy.Input, q explain.Question) (status.Explanation, error) {
	servers, err := parse(input)
	if err != nil {
		return status.Explanation{}, err
	}
	found, err := blocks(input.Path(), servers)
	if err != nil {
		return status.Explanation{}, err
	}
	var parts []*explain.Parts
	for i := range found {
		p, err := partsOf(&found[i])
		if err != nil {
			return status.Explanation{}, err
		}
		parts = append(parts, p)
	}
	return explain.Explain(ctx, parts, q)
}

// partsOf makes what can be asked of a server block.
func partsOf(b *block) (*explain.Parts, error) {
	update, problems, err := objects(*b)
	if err != nil {
		return nil, err
	}
	for _, p := range problems {
		if p.Severity == manifest.Error {
			fmt.Fprintln(os.Stderr, p)
		}
	}
	store := cluster.NewStore()
	store.Apply(update)
	place := b.names.SourcePlace()
	p := &explain.Parts{
		Store: store, Names: clusterip.New(b.names, store, nil).Explained(),
		Source: func() status.Source {
			return status.Source{Kind: b.names.SourceKind(), Place: place, Synced: store.HasSynced()}
		},
		Hints:  func(n cluster.ServiceName) []status.Hint { return clusterip.HintsOf(problems, n) },
		Faults: func() []status.Fault { return clusterip.FaultsOf(problems, b.names.Manifest.StateFile()) },
	}
	if b.hasNAT {
		p.NAT = kernelnat.Preview(b.nat, update)
	}
	return p, nil
}

func writeExplanationJSON(e *status.Explanation) error {
	to := json.NewEncoder(os.Stdout)
	to.SetIndent("", "  ")
	return to.Encode(e)
}

// shownRows is how many endpoints and frontends people are shown.
const shownRows = 50

func writeExplanation(e *status.Explanation) error {
	style := text.Style{Now: time.Now(), MaxRows: shownRows}
	if out := int(os.Stdout.Fd()); term.IsTerminal(out) {
		style.Color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
		style.Width, _, _ = term.GetSize(out) // 0 if it does not say
	}
	_, err := os.Stdout.WriteString(text.Render(e, style))
	return err
}

// adminSocket returns where the process of a Corefile answers, "" if it does not.
func adminSocket(input caddy.Input) (string, error) {
	servers, err := parse(input)
	if err != nil {
		return "", err
	}
	for _, server := range servers {
		if _, has := server.Tokens["admin"]; has {
			o, err := admin.Parse(stanzaOf(input.Path(), server, "admin"))
			return o.Socket, err
		}
	}
	return "", nil
}
