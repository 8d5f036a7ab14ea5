// What people read in place of the words of the JSON: the same as `coredns explain` prints
// (status/text).

const outcomes = { nodata: "no records", nxdomain: "does not exist", elsewhere: "not in the zones here" };
const reasons = {
  other_family: "of the other IP family", names_only: "for names alone", beyond_bounds: "more than a Service may have",
  no_such_port: "without that port", other_node: "for another node", other_zone: "for another zone",
  not_ready: "not ready", terminating: "terminating", weight_0: "of weight 0",
};

// outcome is of a name without records; reason is why an endpoint does not count.
export const outcome = (name) => outcomes[name.outcome] ?? name.outcome;
export const reason = (endpoint) => (endpoint.reason ? reasons[endpoint.reason] ?? endpoint.reason : "no frontend leads there");

// force says what is in force of a frontend, or only planned as far as is known.
export function force(f, planned) {
  switch (f.verdict) {
    case "forward": return `${planned ? "planned" : "yes"}, to ${f.endpoints === 1 ? "1 endpoint" : `${f.endpoints} endpoints`}${f.local ? " on this node" : ""}`;
    case "reject": return "connections are refused: no endpoint counts";
    case "drop": return "connections are dropped: no endpoint is on this node";
    default: return `no: ${f.why}`;
  }
}
