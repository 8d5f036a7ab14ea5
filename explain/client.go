package explain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"github.com/clusterip/clusterip/status"
)

// DefaultSocket is where the directive admin answers, if it is not told another path.
const DefaultSocket = "/run/clusterip/admin.sock"

// Path is that of the HTTP request.
const Path = "/explain"

// values are a question as the query of a request.
func (q Question) values() url.Values {
	return url.Values{"target": {q.Target}, "namespace": {q.Namespace}, "from": {q.From}, "search": q.Search}
}

// QuestionOf reads the query of a request.
func QuestionOf(v url.Values) Question {
	return Question{Target: v.Get("target"), Namespace: v.Get("namespace"), From: v.Get("from"), Search: v["search"]}
}

// ErrNoProcess is wrapped by errors of Ask where no process answers.
var ErrNoProcess = errors.New("no process answers")

// QuestionError is about the Question: it is none.
type QuestionError struct{ error }

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 20

// Ask asks the process whose socket is at a path.
func Ask(ctx context.Context, socket string, q Question) (status.Explanation, error) {
	var out status.Explanation
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin"+Path+"?"+q.values().Encode(), nil)
	if err != nil {
		return out, err
	}
	answer, err := client.Do(request)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) { // a reload has closed the socket: the next one is there
		answer, err = client.Do(request)
	}
	if err != nil {
		if why, ok := errors.AsType[*url.Error](err); ok {
			err = why.Err
		}
		return out, fmt.Errorf("%w at %s: %w", ErrNoProcess, socket, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	switch {
	case err != nil:
		return out, fmt.Errorf("read the answer of the process at %s: %w", socket, err)
	case answer.StatusCode == http.StatusBadRequest:
		return out, QuestionError{errors.New(strings.TrimSpace(string(body)))}
	case answer.StatusCode != http.StatusOK:
		return out, fmt.Errorf("the process at %s answers %s: %s", socket, answer.Status, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return out, fmt.Errorf("read the answer of the process at %s: %w", socket, err)
	}
	if out.Schema != status.Schema {
		return out, fmt.Errorf("the process at %s answers in schema %d, and this program knows %d: run the coredns of the same version", socket, out.Schema, status.Schema)
	}
	return out, nil
}
