package admin

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/clusterip/clusterip/explain"
)

// What is asked for beside explain.Path.
const (
	overviewPath = "/overview"
	servicesPath = "/services"
)

// answers are what the socket and the page say of a server. One is made at a time, wherever it
// is asked for: it may go through all Services, and names are to be answered meanwhile.
type answers struct {
	server    *explain.Server
	turn      turns
	catalogue func() *explain.Catalogue
}

func newAnswers(server *explain.Server) *answers {
	return &answers{server: server, turn: make(turns, atOnce), catalogue: sync.OnceValue(func() *explain.Catalogue {
		return explain.NewCatalogue(server.Parts()) // when all directives are set up
	})}
}

// handler answers GET /explain?target=T&namespace=N&from=F with the JSON of an Explanation,
// /overview with that of an Overview, and /services?search=S&wrong=1&page=P with that of a List.
// What is no question is answered by 400 and a sentence. Who asks goes through the lane.
func (a *answers) handler(l lane) http.Handler {
	mux := http.NewServeMux()
	for path, answer := range map[string]func(*http.Request) (any, error){
		explain.Path: a.explain, overviewPath: a.overview, servicesPath: a.services,
	} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, r *http.Request) {
			body, err := a.make(r, answer, l)
			switch {
			case r.Context().Err() != nil: // the client has gone
			case errors.As(err, new(explain.QuestionError)):
				http.Error(w, err.Error(), http.StatusBadRequest)
			case err != nil:
				http.Error(w, err.Error(), http.StatusNotFound)
			default:
				w.Header().Set("Content-Type", "application/json")
				w.Write(body)
			}
		})
	}
	return mux
}

// make makes an answer in turn. The client takes it out of turn, at its leisure.
func (a *answers) make(r *http.Request, answer func(*http.Request) (any, error), l lane) ([]byte, error) {
	if !l.take(r.Context()) {
		return nil, r.Context().Err()
	}
	if !a.turn.take(r.Context()) {
		l.give()
		return nil, r.Context().Err()
	}
	defer l.rest(time.Now())
	defer a.turn.give()
	value, err := answer(r)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(value)
	return append(body, '\n'), err
}

func (a *answers) explain(r *http.Request) (any, error) {
	return explain.Explain(r.Context(), a.server.Parts(), explain.QuestionOf(r.URL.Query()))
}

func (a *answers) overview(r *http.Request) (any, error) {
	out := a.catalogue().Overview(r.Context())
	out.Meters = meters(a.server.Parts())
	return out, nil
}

func (a *answers) services(r *http.Request) (any, error) {
	q := r.URL.Query()
	page, _ := strconv.Atoi(q.Get("page")) // what is no number is the first
	return a.catalogue().List(r.Context(), explain.Search{Text: q.Get("search"), Wrong: q.Get("wrong") != "", Page: page}), nil
}
