package performance

import "time"

// DNS is what was measured of name servers in one run, the sizes in the order in which they
// were. CoreDNS is the first side of each.
type DNS []NameServer

// NameServer is one of those that are compared, at one size. Durations are in nanoseconds
// where they are stored. What is 0 or missing was not measured.
type NameServer struct {
	Name                string
	Services, Endpoints int // so many endpoints each
	Answers             []Answers

	Start                       time.Duration `json:",omitempty"` // from the start of the process to the first right answer
	RSSStart, RSSAsked, RSSMost int           `json:",omitempty"` // in MiB: then, when every name was asked for, at most
	Changes                     *Changing     `json:",omitempty"`
	Overload                    *Overload     `json:",omitempty"`
}

// Answers are those to one kind of question.
type Answers struct {
	Kind      string
	Few       bool          // few names; otherwise those of all Services
	PerSecond float64       // at most, asked in batches
	CPU       time.Duration // of the server for one, at that rate: user, system and softirq
	Dnsperf   float64       `json:",omitempty"` // a second at most, asked by dnsperf
	// Half of the most that CoreDNS can is asked at, and what an answer took then.
	Half     float64       `json:",omitempty"`
	P50, P99 time.Duration `json:",omitempty"`
}

// Changing is what an answer takes at so many questions a second, without and with changes of
// endpoints meanwhile.
type Changing struct {
	Asked, PerSecond float64       // questions, changes
	Quiet, P50, P99  time.Duration // Quiet is the 99th percentile without changes
}

// Overload is twice as many questions as can be answered, the server on one processor and who
// asks on another.
type Overload struct {
	Most, Asked, Answered float64 // a second
	RSS                   int     // in MiB, at most
}

// Save writes results to a file of a folder, by name.
func (d DNS) Save(folder, name string) error { return save(folder, name, d) }

// bySize are the servers by the number of Services.
func (d DNS) bySize() [][]NameServer {
	var out [][]NameServer
	for i, n := range d {
		if i == 0 || n.Services != d[i-1].Services {
			out = append(out, nil)
		}
		out[len(out)-1] = append(out[len(out)-1], n)
	}
	return out
}

// find returns the answers of a server to a kind of question, or nil.
func (n *NameServer) find(kind string, few bool) *Answers {
	for i, a := range n.Answers {
		if a.Kind == kind && a.Few == few {
			return &n.Answers[i]
		}
	}
	return nil
}
