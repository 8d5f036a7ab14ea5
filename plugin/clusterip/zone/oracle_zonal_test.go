package zone_test

import (
	"slices"
	"strings"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/plugin/clusterip/zone"
)

// narrow reads a zonal name. It returns the Service's own name and a world in
// which the Service has only the endpoints meant; no world for the names that
// exist just above zonal ones.
func (w *world) narrow(name string) (narrowed *world, base string, ok bool) {
	left, base, found := strings.Cut(name, "_zone.")
	labels := strings.Split(base, ".")
	if !w.options.Zonal || !found || len(labels) < 3 || !strings.HasSuffix(base, ".svc."+origin) {
		return nil, "", false
	}
	s := w.services[cluster.ServiceName{Namespace: labels[1], Name: labels[0]}]
	if s == nil || s.Kind != cluster.KindHeadless || !w.exposed(labels[1]) || strings.Count(base, ".") != 5 {
		return nil, "", false
	}
	topology, prefer := strings.CutSuffix(left, ".prefer.")
	if !prefer {
		topology, found = strings.CutSuffix(left, ".pin.")
	}
	if !found {
		return nil, base, left == "" || left == "pin." || left == "prefer."
	}
	var there, all []cluster.Endpoint
	for _, e := range cluster.Usable(s.Endpoints) {
		e.Ready = true
		all = append(all, e)
		if strings.EqualFold(e.Zone(), topology) {
			there = append(there, e)
		}
	}
	if prefer && len(there) == 0 {
		there = all
	}
	narrowed = newWorld(w.options)
	narrowed.services[s.Name] = cluster.New(cluster.Service{Name: s.Name, Kind: s.Kind, Ports: s.Ports}, there)
	return narrowed, base, true
}

// lookupZonal is lookup for a zonal name.
func (w *world) lookupZonal(name, qtype string) (zone.Outcome, []string) {
	narrowed, base, _ := w.narrow(name)
	if narrowed == nil {
		return zone.NoData, nil
	}
	outcome, records := narrowed.lookup(base, qtype)
	for i, record := range records {
		records[i] = strings.Replace(record, base, name, 1)
	}
	if outcome == zone.NXDomain {
		outcome = zone.NoData
	}
	slices.Sort(records)
	return outcome, records
}
