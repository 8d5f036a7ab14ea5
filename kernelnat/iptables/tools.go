package iptables

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/clusterip/clusterip/cluster"
)

// How long a tool may take. A transaction of ordinary size takes well under a second. To save all rules of
// 10,000 Services of ten endpoints has taken more than a minute on a busy machine.
const (
	versionTimeout = 10 * time.Second
	listTimeout    = time.Minute
	saveTimeout    = 5 * time.Minute
	restoreTimeout = 2 * time.Minute
)

// lockSeconds is how long iptables-legacy-restore waits for the xtables lock.
const lockSeconds = 5

// variant is one of the two kernel interfaces that iptables comes for. They do
// not see each other's rules.
type variant string

const (
	nft    variant = "nft"
	legacy variant = "legacy"
)

var variants = []variant{nft, legacy}

func (v variant) other() variant {
	if v == legacy {
		return nft
	}
	return legacy
}

// chains is how many chains one transaction may declare. iptables-nft-restore takes
// time in proportion to the square of it. With version 1.8.9 and Services of 2 ports and
// 10 endpoints, of 22 chains each, it takes 6.7 s for 500 Services, 29 s for 1,000 and
// 140 s for 2,000; but 1.9 s for 1,000 in 20 transactions. iptables-legacy-restore
// rewrites the whole table each time.
func (v variant) chains() int {
	if v == legacy {
		return 25_000
	}
	return 1_000
}

// tools are the programs of one variant for one family.
type tools struct {
	variant       variant
	family        cluster.Family
	save, restore string // absolute paths
	version       version
}

var errOtherVariant = errors.New("it is of the other variant")

// command is the name of the program that the others are named after.
func command(f cluster.Family) string {
	if f == cluster.IPv6 {
		return "ip6tables"
	}
	return "iptables"
}

// findTools looks for the programs in PATH: those with the variant in their name
// or, where there are none, the plain ones if they are of that variant.
func findTools(ctx context.Context, v variant, f cluster.Family) (*tools, error) {
	var missing error
	for _, name := range []string{command(f) + "-" + string(v), command(f)} {
		t, err := findNamed(ctx, name, v, f)
		if err == nil {
			return t, nil
		}
		if missing == nil {
			missing = err
		}
	}
	return nil, missing
}

func findNamed(ctx context.Context, name string, v variant, f cluster.Family) (*tools, error) {
	var paths [3]string
	for i, program := range []string{name, name + "-save", name + "-restore"} {
		path, err := exec.LookPath(program)
		if err != nil {
			return nil, fmt.Errorf("%w: install the package iptables", err)
		}
		paths[i] = path
	}
	var out strings.Builder
	run := execution{path: paths[0], args: []string{"--version"}, stdout: &out, timeout: versionTimeout, explain: explainSave}
	if err := run.do(ctx); err != nil {
		return nil, err
	}
	found, actual, err := parseVersion(out.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", paths[0], err)
	}
	if actual != v {
		return nil, fmt.Errorf("%s: %w: %s, not %s", paths[0], errOtherVariant, actual, v)
	}
	return &tools{variant: v, family: f, save: paths[1], restore: paths[2], version: found}, nil
}

// version is a version of iptables.
type version [3]int

// hasRandomFully also says whether iptables-restore knows --wait.
func (v version) hasRandomFully() bool {
	return v[0] > 1 || v[0] == 1 && (v[1] > 6 || v[1] == 6 && v[2] >= 2)
}

var versionPattern = regexp.MustCompile(`v(\d+)\.(\d+)(?:\.(\d+))?`)

// parseVersion reads "iptables v1.8.9 (nf_tables)". Before 1.8 there was only the
// legacy variant, and it was not named.
func parseVersion(output string) (version, variant, error) {
	var v version
	m := versionPattern.FindStringSubmatch(output)
	if m == nil {
		return v, "", fmt.Errorf("no version in its answer to --version: %q", output)
	}
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1]) // digits, or "" for 0
	}
	if strings.Contains(output, "nf_tables") {
		return v, nft, nil
	}
	return v, legacy, nil
}

// read reads the rules of all tables that there are.
func (t *tools) read(ctx context.Context) (*parser, error) {
	p := &parser{state: state{}}
	return p, t.saved(ctx, p)
}

// saved writes the rules of all tables that there are as iptables-save prints them.
func (t *tools) saved(ctx context.Context, to io.Writer) error {
	if t.variant == legacy {
		if loaded, err := legacyLoaded(t.family); err != nil || !loaded {
			return err
		}
	}
	return execution{path: t.save, stdout: to, timeout: saveTimeout, explain: explainSave}.do(ctx)
}

// write runs iptables-restore.
func (t *tools) write(ctx context.Context, input []byte) error {
	args := []string{"--noflush"}
	if t.version.hasRandomFully() {
		args = append(args, "--wait", strconv.Itoa(lockSeconds))
	}
	return execution{
		path: t.restore, args: args, stdin: input, timeout: restoreTimeout,
		explain: func(stderr string) error { return explainRestore(stderr, input) },
	}.do(ctx)
}
