package main

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/clusterip/clusterip/cluster"
	"github.com/clusterip/clusterip/difference"
	"github.com/clusterip/clusterip/kernelnat/plan"
)

// The JSON of coredns plan. docs/operations.md describes it; fields may be added, and what
// there is keeps its name and meaning as long as version is 1.
type (
	jsonProblem struct {
		Severity string `json:"severity"` // error or notice
		File     string `json:"file,omitempty"`
		Line     int    `json:"line,omitempty"`
		Object   string `json:"object,omitempty"`
		Text     string `json:"text"` // as coredns check prints it, with file, line and object
	}
	jsonService struct {
		Change    string         `json:"change"` // add, remove or change
		Namespace string         `json:"namespace"`
		Name      string         `json:"name"`
		Before    *jsonSpec      `json:"before,omitempty"`
		After     *jsonSpec      `json:"after,omitempty"`
		Names     []jsonName     `json:"names"`
		Frontends []jsonFrontend `json:"frontends"`
	}
	jsonSpec struct {
		Type         string     `json:"type"` // ClusterIP, Headless or ExternalName
		ClusterIPs   []string   `json:"clusterIPs"`
		ExternalName string     `json:"externalName,omitempty"`
		Ports        []jsonPort `json:"ports"`
	}
	jsonPort struct {
		Name     string `json:"name,omitempty"`
		Protocol string `json:"protocol"`
		Port     uint16 `json:"port"`
		NodePort uint16 `json:"nodePort,omitempty"`
	}
	jsonName struct {
		Change  string        `json:"change"`
		Name    string        `json:"name"`
		Stops   bool          `json:"stops"`
		Records []jsonRecords `json:"records"`
	}
	jsonRecords struct {
		Type   string   `json:"type"`
		Before []string `json:"before"`
		After  []string `json:"after"`
	}
	jsonFrontend struct {
		Change   string      `json:"change"`
		Type     string      `json:"type"`              // ClusterIP, ExternalIP, LoadBalancer or NodePort
		Family   string      `json:"family"`            // IPv4 or IPv6
		Address  string      `json:"address,omitempty"` // none for NodePort
		Port     uint16      `json:"port"`
		Protocol string      `json:"protocol"`
		Stops    bool        `json:"stops"`
		From     string      `json:"from,omitempty"` // namespace/name
		To       string      `json:"to,omitempty"`
		Before   *jsonTarget `json:"before,omitempty"`
		After    *jsonTarget `json:"after,omitempty"`
	}
	jsonTarget struct {
		Verdict   string           `json:"verdict"` // forward, reject or drop
		Endpoints []string         `json:"endpoints"`
		Weights   []cluster.Weight `json:"weights,omitempty"`
		Sources   []string         `json:"sources,omitempty"`
		Terms     []string         `json:"terms,omitempty"`
	}
	jsonTotals struct {
		Services  jsonCount `json:"services"`
		Names     jsonCount `json:"names"`
		Frontends jsonCount `json:"frontends"`
	}
	jsonCount struct {
		Add    int `json:"add"`
		Remove int `json:"remove"`
		Change int `json:"change"`
		Stop   int `json:"stop"`
	}
)

// writeComparisonJSON prints a comparison for programs, as one object. Its Services come one at a time,
// a line each. It returns the exit code, which is in the object too.
func writeComparisonJSON(w io.Writer, c *comparison) int {
	var totals difference.Totals
	problems := []jsonProblem{}
	for _, p := range c.problems {
		problems = append(problems, jsonProblem{p.Severity.String(), p.File, p.Line, p.Object, p.text()})
	}
	fmt.Fprintf(w, "{\"version\":1,\"serviceCIDRs\":%s,\"serviceCIDRsGuessed\":%t,\n\"problems\":%s,\n\"services\":[",
		asJSON(texts(c.cidrs)), c.fitted, asJSON(problems))
	separator := "\n"
	for s := range difference.Between(c.before, c.after, c.block.names.Index(nil)) {
		totals.Add(&s)
		fmt.Fprintf(w, "%s%s", separator, asJSON(serviceJSON(&s)))
		separator = ",\n"
	}
	code := c.exitCode(&totals)
	fmt.Fprintf(w, "],\n\"totals\":%s,\"exit\":%d}\n", asJSON(jsonTotals{countJSON(totals.Services), countJSON(totals.Names), countJSON(totals.Frontends)}), code)
	return code
}

// asJSON encodes values that have a JSON, which all here have.
func asJSON(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

var jsonChanges = map[difference.Mark]string{difference.Added: "add", difference.Removed: "remove", difference.Changed: "change"}

func countJSON(c difference.Count) jsonCount {
	return jsonCount{c.Added, c.Removed, c.Changed, c.Stops}
}

func serviceJSON(s *difference.Service) jsonService {
	out := jsonService{
		Change: jsonChanges[s.Mark], Namespace: s.Name.Namespace, Name: s.Name.Name,
		Before: specJSON(s.Before), After: specJSON(s.After),
		Names: make([]jsonName, len(s.Names)), Frontends: make([]jsonFrontend, len(s.Frontends)),
	}
	for i, n := range s.Names {
		name := jsonName{Change: jsonChanges[n.Mark], Name: n.Name, Stops: n.Stops}
		for _, r := range n.Records {
			name.Records = append(name.Records, jsonRecords{r.Type, notNil(r.Before), notNil(r.After)})
		}
		out.Names[i] = name
	}
	for i := range s.Frontends {
		out.Frontends[i] = frontendJSON(&s.Frontends[i])
	}
	return out
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func specJSON(s *cluster.Service) *jsonSpec {
	if s == nil {
		return nil
	}
	kinds := map[cluster.Kind]string{cluster.KindClusterIP: "ClusterIP", cluster.KindHeadless: "Headless", cluster.KindExternalName: "ExternalName"}
	out := &jsonSpec{Type: kinds[s.Kind], ClusterIPs: texts(s.ClusterIPs), ExternalName: s.ExternalName, Ports: []jsonPort{}}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, jsonPort{p.Name, p.Protocol.String(), p.Port, p.NodePort})
	}
	return out
}

func frontendJSON(f *difference.Frontend) jsonFrontend {
	kinds := map[plan.Kind]string{plan.ClusterIP: "ClusterIP", plan.ExternalIP: "ExternalIP", plan.LoadBalancer: "LoadBalancer", plan.NodePort: "NodePort"}
	out := jsonFrontend{
		Change: jsonChanges[f.Mark], Type: kinds[f.Kind], Family: cluster.FamilyOf(f.At.Addr()).String(),
		Port: f.At.Port(), Protocol: f.Protocol.String(), Stops: f.Stops,
		From: ofService("", f.From), To: ofService("", f.To), Before: targetJSON(f.Before), After: targetJSON(f.After),
	}
	if f.Kind != plan.NodePort {
		out.Address = f.At.Addr().String()
	}
	return out
}

func targetJSON(t *difference.Target) *jsonTarget {
	if t == nil {
		return nil
	}
	verdicts := map[plan.Verdict]string{plan.Forward: "forward", plan.Reject: "reject", plan.Drop: "drop"}
	return &jsonTarget{verdicts[t.Verdict], texts(t.Endpoints), t.Weights, texts(t.Sources), t.Terms}
}
