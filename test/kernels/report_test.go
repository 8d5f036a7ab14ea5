package kernels

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// result is what became of one test in the machine.
type result struct {
	name   string
	ended  string // "pass", "fail", "skip"; empty if it did not end
	output strings.Builder
	parts  []*result // its subtests
}

// results reads what a test binary with -test.v=test2json has written. The result that
// is returned stands for the whole binary.
func results(output string) (*result, error) {
	cmd := exec.Command("go", "tool", "test2json")
	cmd.Stdin = strings.NewReader(output)
	events, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool test2json: %w", err)
	}
	whole := &result{}
	byName := map[string]*result{"": whole}
	for decoder := json.NewDecoder(strings.NewReader(string(events))); ; {
		var event struct{ Action, Test, Output string }
		if err := decoder.Decode(&event); errors.Is(err, io.EOF) {
			return whole, nil
		} else if err != nil {
			return nil, fmt.Errorf("go tool test2json: %w", err)
		}
		test := byName[event.Test]
		if test == nil {
			parent := parentOf(event.Test, byName)
			test = &result{name: strings.TrimPrefix(strings.TrimPrefix(event.Test, parent), "/")}
			byName[event.Test] = test
			byName[parent].parts = append(byName[parent].parts, test)
		}
		switch event.Action {
		case "pass", "fail", "skip":
			test.ended = event.Action
		case "output":
			test.output.WriteString(event.Output)
		}
	}
}

// parentOf is the longest name that is known of a test which this one is part of. Names
// have slashes of their own.
func parentOf(name string, known map[string]*result) string {
	for {
		slash := strings.LastIndexByte(name, '/')
		if slash < 0 {
			return ""
		}
		if name = name[:slash]; known[name] != nil {
			return name
		}
	}
}

// report makes each test of the machine a subtest of t, with the same end.
func (r *result) report(t *testing.T) {
	for _, part := range r.parts {
		t.Run(part.name, func(t *testing.T) {
			part.report(t)
			t.Logf("in the machine:\n%s", part.output.String())
			switch part.ended {
			case "pass":
			case "skip":
				t.Skip("skipped in the machine")
			case "fail":
				t.Fail()
			default:
				t.Error("it did not end")
			}
		})
	}
}
