package explain

import (
	"context"
	"strings"
	"testing"
)

// What is no name of a Pod does nothing to the terminal of who is told so.
func TestClientWithControlCharacters(t *testing.T) {
	p, _ := block(1)
	_, err := Explain(context.Background(), []*Parts{p}, Question{Target: "ns-0/service-000", From: "a/b\x1b[31m\r\nc"})
	if err == nil || strings.ContainsAny(err.Error(), "\x1b\r\n") {
		t.Errorf("%q", err)
	}
}
