package admin

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/clusterip/clusterip/explain"
)

// handler answers GET /explain?target=T&namespace=N&from=F with the JSON of an Explanation, and
// with 400 and a sentence where the question is no question.
func handler(server *explain.Server) http.Handler {
	mux := http.NewServeMux()
	turn := make(turns, atOnce)
	mux.HandleFunc("GET "+explain.Path, func(w http.ResponseWriter, r *http.Request) {
		if !turn.take(r.Context()) {
			return
		}
		defer turn.give()
		q := explain.QuestionOf(r.URL.Query())
		e, err := explain.Explain(r.Context(), server.Parts(), q)
		switch {
		case errors.As(err, new(explain.QuestionError)):
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		case err != nil:
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(e) // the client has gone
	})
	return mux
}
