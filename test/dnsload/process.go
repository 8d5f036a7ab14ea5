package dnsload

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
)

// Process asks in a process of its own, where no garbage of a test is collected.
type Process struct {
	cmd *exec.Cmd
	in  io.Closer
	enc *gob.Encoder
	dec *gob.Decoder
}

// marker in the environment has Main ask.
const marker = "CLUSTERIP_DNSLOAD"

// Main is for TestMain of packages that call Start: it does not return in the process
// that asks.
func Main() {
	if os.Getenv(marker) == "" {
		return
	}
	in, out := gob.NewDecoder(os.Stdin), gob.NewEncoder(os.Stdout)
	for {
		var l Load
		if err := in.Decode(&l); errors.Is(err, io.EOF) {
			os.Exit(0)
		} else if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		runtime.GC()
		debug.SetGCPercent(-1)
		result := make(chan Result)
		go func() { result <- l.Run() }()
		err := out.Encode(<-result)
		if debug.SetGCPercent(100); err != nil {
			os.Exit(1)
		}
	}
}

// Start starts one, which is this program.
func Start() (*Process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Process{cmd, in, gob.NewEncoder(in), gob.NewDecoder(out)}, nil
}

// Run is Load.Run in that process.
func (p *Process) Run(l Load) (r Result) {
	err := p.enc.Encode(l)
	if err == nil {
		err = p.dec.Decode(&r)
	}
	if err != nil {
		r.Failed = err.Error()
	}
	return r
}

// Close ends it.
func (p *Process) Close() error {
	p.in.Close()
	return p.cmd.Wait()
}
