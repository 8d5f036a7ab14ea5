package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"strings"
	"time"
)

// program is one that was built, with what Go has written into it.
type program struct {
	content      []byte
	architecture string // as Go names it
	version      string
	revision     string // the commit
	// at is the time of the commit, which files in the image have.
	at time.Time
}

// readProgram reads a program that was built in a clone of the repository.
func readProgram(path string) (program, error) {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return program{}, err // which names the file
	}
	p := program{version: info.Main.Version}
	at := ""
	for _, setting := range info.Settings {
		switch setting.Key {
		case "GOARCH":
			p.architecture = setting.Value
		case "vcs.revision":
			p.revision = setting.Value
		case "vcs.time":
			at = setting.Value
		}
	}
	if p.revision == "" {
		return program{}, fmt.Errorf("%s does not say of which commit it is: build it with go build -buildvcs=true in a clone of the repository, which a worktree of one is not to Go", path)
	}
	if p.at, err = time.Parse(time.RFC3339, at); err != nil {
		return program{}, fmt.Errorf("%s: time of its commit: %w", path, err)
	}
	p.content, err = os.ReadFile(path)
	return p, err
}

// tag is the version as the name of an image can have it.
func (p program) tag() string { return strings.ReplaceAll(p.version, "+", "-") }
