package status

// Meters are what a process has counted since it started, for who looks at it twice.
type Meters struct {
	// Answers are the queries for names of Services that were answered, by outcome.
	Answers map[string]float64 `json:"answers,omitempty"`
	// Queries is how long all queries took, nil where no server block has the plugin
	// prometheus, which measures it.
	Queries *Histogram `json:"queries,omitempty"`
	// Writes is how long it took to write changes to the kernel, by IP family.
	Writes map[string]*Histogram `json:"writes,omitempty"`
}

// Histogram is of durations in seconds.
type Histogram struct {
	Count uint64 `json:"count"`
	// Counts are how many took at most as long as the bound of the same index.
	Bounds []float64 `json:"bounds"`
	Counts []uint64  `json:"counts"`
}

// Add adds what another one with the same bounds has counted.
func (h *Histogram) Add(o Histogram) {
	if h.Bounds == nil {
		h.Bounds, h.Counts = o.Bounds, make([]uint64, len(o.Counts))
	}
	h.Count += o.Count
	for i := range h.Counts {
		h.Counts[i] += o.Counts[i]
	}
}
