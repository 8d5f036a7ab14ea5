package admin

import (
	"github.com/clusterip/clusterip/explain"
	"github.com/clusterip/clusterip/status"
	"github.com/coredns/coredns/plugin/metrics/vars"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// meters reads the few metrics that are shown. A registry would collect all of them, which lists
// counters of the kernel.
func meters(parts []*explain.Parts) status.Meters {
	var out status.Meters
	for _, p := range parts {
		if p.Answers != nil && out.Answers == nil {
			out.Answers = make(map[string]float64)
			for _, m := range read(p.Answers) {
				out.Answers[label(m, "outcome")] = m.GetCounter().GetValue()
			}
		}
		if p.Writes != nil {
			out.Writes = make(map[string]*status.Histogram)
			for _, m := range read(p.Writes) {
				h := histogram(m)
				out.Writes[label(m, "ip_family")] = &h
			}
		}
	}
	for _, m := range read(vars.RequestDuration) {
		if out.Queries == nil {
			out.Queries = new(status.Histogram)
		}
		out.Queries.Add(histogram(m))
	}
	return out
}

// read returns what a collector collects now.
func read(from prometheus.Collector) (out []*dto.Metric) {
	collected := make(chan prometheus.Metric)
	go func() {
		from.Collect(collected)
		close(collected)
	}()
	for m := range collected {
		d := new(dto.Metric)
		if m.Write(d) == nil {
			out = append(out, d)
		}
	}
	return out
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func histogram(m *dto.Metric) status.Histogram {
	h := m.GetHistogram()
	out := status.Histogram{Count: h.GetSampleCount()}
	for _, b := range h.GetBucket() {
		out.Bounds = append(out.Bounds, b.GetUpperBound())
		out.Counts = append(out.Counts, b.GetCumulativeCount())
	}
	return out
}
