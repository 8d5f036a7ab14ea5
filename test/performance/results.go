// Package performance keeps what the benchmarks of NAT and DNS have measured and renders it into
// docs/performance.md: tables and charts.
package performance

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// NAT is what was measured in one run, the sizes in the order in which they were.
type NAT []Side

// Side is one of those that are compared, at one size. Durations are in nanoseconds where
// they are stored. What is 0 or missing was not measured.
type Side struct {
	Name                string // "kernelnat nftables"
	Services, Endpoints int    // so many endpoints each

	FirstPacket time.Duration `json:",omitempty"` // from the start of the process until a client could connect to the last Service
	FullSync    time.Duration `json:",omitempty"` // from there until all of both families is written, by its own clock
	LongestWait time.Duration `json:",omitempty"` // of another writer to nf_tables meanwhile, which bounds the longest commit

	Change    Quantiles     // until the kernel holds a change that the API server has told
	ChangeOwn time.Duration `json:",omitempty"` // what writing one takes by its own metric, at the mean
	ChangeCPU time.Duration `json:",omitempty"` // with all processes it runs, for one
	OneRule   time.Duration `json:",omitempty"` // what iptables-restore takes for a rule of somebody else
	Rate      *Rate         `json:",omitempty"`

	Connect           Quantiles // a handshake through a Service
	ConnectsPerSecond float64   `json:",omitempty"`
	ConnectsFailed    int       `json:",omitempty"` // of some 80,000

	RSSStart, RSSChanged int    `json:",omitempty"` // in MiB: after the first sync, after the changes
	Large                *Large `json:",omitempty"`
}

// Quantiles are those of so many durations.
type Quantiles struct {
	Count         int
	P50, P99, Max time.Duration
}

// QuantilesOf sorts the durations, of which there must be some.
func QuantilesOf(took []time.Duration) Quantiles {
	slices.Sort(took)
	at := func(part float64) time.Duration { return took[int(part*float64(len(took)-1)+.5)] }
	return Quantiles{Count: len(took), P50: at(.5), P99: at(.99), Max: took[len(took)-1]}
}

// Rate is a run with as many changes a second as could be made.
type Rate struct {
	PerSecond float64
	CPU       float64   // processors in use
	Behind    Quantiles // how long a change that was made was not in the kernel
}

// Large is what happens while one Service with many endpoints at several ports comes,
// changes and goes.
type Large struct {
	Ports, Endpoints     int
	Usual                Quantiles // changes of a small Service without that
	Comes, Changes, Goes Phase
	LongestWait          time.Duration // of another writer to nf_tables
	RSS                  int           // in MiB, after it
}

// Phase is one of these.
type Phase struct {
	Small Quantiles     // changes of the small Service meanwhile
	Took  time.Duration // until the kernel holds what is large; where it goes, until the API server has that
	Over  bool          // something was not in the kernel when the limit was
}

// Save writes results to a file of a folder, by name.
func (n NAT) Save(folder, name string) error { return save(folder, name, n) }

func save(folder, name string, results any) error {
	text, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, name+".json"), append(text, '\n'), 0o644)
}

// Load reads what Save has written.
func Load[Results NAT | DNS](folder, name string) (results Results, err error) {
	path := filepath.Join(folder, name+".json")
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &results); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return results, nil
}
