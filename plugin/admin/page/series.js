// What is counted is told as totals. Two of them, some seconds apart, are a rate and a share of
// durations.

const kept = 360; // points: half an hour
export const series = { at: [], queries: [], answers: [], p50: [], p99: [], nat50: [], nat99: [], measured: false };
let before;

// record adds a point, of what has changed since the overview before.
export function record(overview) {
  const now = { at: Date.parse(overview.at) / 1000, ...overview.meters };
  series.measured = now.queries != null;
  if (before && now.at > before.at) {
    const seconds = now.at - before.at;
    const latency = since(before.queries, now.queries);
    const writes = Object.keys(now.writes ?? {}).map((family) => since(before.writes?.[family], now.writes[family]));
    const nat = writes.reduce(sum, undefined);
    add({
      at: now.at,
      queries: latency ? latency.count / seconds : null,
      answers: rate(total(before.answers), total(now.answers), seconds),
      p50: quantile(latency, 0.5), p99: quantile(latency, 0.99), nat50: quantile(nat, 0.5), nat99: quantile(nat, 0.99),
    });
  }
  before = now;
}

function add(point) {
  for (const [name, value] of Object.entries(point)) {
    series[name].push(value);
    if (series[name].length > kept) series[name].shift();
  }
}

const total = (counters) => Object.values(counters ?? {}).reduce((a, b) => a + b, 0);
const rate = (a, b, seconds) => (b >= a ? (b - a) / seconds : null); // less than before: the process is another

// since is what a histogram has counted after another one, null if the process is another.
function since(a, b) {
  if (!b) return null;
  if (!a || a.bounds.length !== b.bounds.length) return b;
  if (b.count < a.count) return null;
  return { count: b.count - a.count, bounds: b.bounds, counts: b.counts.map((n, i) => n - a.counts[i]) };
}

function sum(a, b) {
  if (!a || !b) return a ?? b;
  return { count: a.count + b.count, bounds: a.bounds, counts: a.counts.map((n, i) => n + b.counts[i]) };
}

// quantile is that of durations in milliseconds, as Prometheus reckons it; null if there are none.
export function quantile(h, q) {
  if (!h || h.count === 0) return null;
  const rank = q * h.count;
  const at = h.counts.findIndex((n) => n >= rank);
  if (at < 0) return 1000 * h.bounds.at(-1);
  const below = at ? h.counts[at - 1] : 0, from = at ? h.bounds[at - 1] : 0;
  return 1000 * (from + ((h.bounds[at] - from) * (rank - below)) / (h.counts[at] - below || 1));
}
