// The path of a packet: client, name, frontends, endpoints. On a narrow screen it is drawn from
// the top down, so that words keep their size.

import { percent, svg } from "./dom.js";
import { force, outcome, reason } from "./words.js";

const most = { frontends: 4, endpoints: 10 };
const widest = 10; // of a line, in CSS pixels

export function path(e, narrow) {
  const { nodes, links } = graph(e);
  const layout = narrow ? down(nodes) : across(nodes);
  const root = svg("svg", { viewBox: `0 0 ${layout.width} ${layout.height}`, width: layout.width, height: layout.height, role: "img", class: "graph" },
    svg("title", {}, words(nodes)),
    links.map(([a, b, share]) => svg("path", { class: share > 0 ? "link" : "link none", d: layout.line(a, b), "stroke-width": Math.max(1, widest * share) })),
    nodes.map((n) => svg("g", { class: `node ${n.kind}`, transform: `translate(${n.x} ${n.y})` },
      svg("rect", { width: n.width, height: n.height, rx: 6 }),
      svg("text", { x: 8, y: 17 }, cut(n.text, n.width)), n.note && svg("text", { x: 8, y: 32, class: "note" }, cut(n.note, n.width)))));
  return root;
}

// graph is what is drawn, in columns, and what leads where with what share.
function graph(e) {
  const nodes = [], links = [];
  const node = (column, kind, text, note) => (nodes.push({ column, kind, text, note, height: note ? 40 : 26 }), nodes.at(-1));
  const client = node(0, "client", e.from ? e.from.pod ?? e.from.address : "any client", e.from?.pod && e.from.address);
  const found = e.names?.find((n) => n.answers) ?? e.names?.find((n) => n.outcome === "records") ?? e.names?.[0];
  let entry = client;
  if (found) {
    entry = node(1, found.outcome === "records" ? "name" : "name bad", found.name.replace(/\.$/, ""), found.outcome === "records" ? "" : outcome(found));
    links.push([client, entry, 0.3]);
  }
  if (e.service.externalName) links.push([entry, node(2, "endpoint", e.service.externalName, "looked up elsewhere"), 0.3]);
  const missing = missingFrontend(e);
  if (missing) {
    links.push([entry, node(2, "frontend bad", missing, "no such port"), 0]);
    return { nodes, links };
  }
  const ends = endpoints(e, node);
  const fronts = (e.nat ?? []).flatMap((f) => f.frontends).slice(0, most.frontends);
  if (fronts.length === 0) for (const [row, end] of ends) links.push([entry, end, row.counts ? row.share ?? 1 / Math.max(1, ends.length) : 0]);
  for (const f of fronts) {
    const bad = f.verdict !== "forward";
    const front = node(2, bad ? "frontend bad" : "frontend", f.at, bad ? force(f).replace(/^(connections are \w+):.*/, "$1") : f.kind);
    links.push([entry, front, bad ? 0 : 0.3]);
    for (const [row, end] of ends) {
      const share = f.local ? row.localShare : row.share;
      if (row.port === f.port && share != null && !bad && isIPv6(row.address) === isIPv6(f.at)) links.push([front, end, share]);
    }
  }
  const all = (e.service.endpoints?.length ?? 0) + (e.service.left ?? 0);
  if (all > ends.length) node(3, "rest", `and ${all - ends.length} more`);
  return { nodes: nodes.toSorted((a, b) => a.column - b.column), links };
}

// missingFrontend is the target, if it is a port that an address of the Service does not have.
function missingFrontend(e) {
  const [, host, port, protocol] = /^(.+):(\d+)(\/\w+)?$/.exec(e.target) ?? [];
  if (!host || !URL.canParse(`http://${host}`)) return null;
  const address = new URL(`http://${host}`).hostname; // as Go writes it: IPv6 in lower case, without needless zeros
  const there = (e.nat ?? []).flatMap((f) => f.frontends).map((f) => f.at.toLowerCase()).filter((at) => at.startsWith(`${address}:`));
  const wanted = `${address}:${port}${protocol ?? "/"}`.toLowerCase();
  return there.length && !there.some((at) => at.startsWith(wanted)) ? e.target : null;
}

function endpoints(e, node) {
  const rows = (e.service.endpoints ?? []).toSorted((a, b) => b.counts - a.counts || (b.share ?? 0) - (a.share ?? 0)).slice(0, most.endpoints);
  return rows.map((row) => {
    const share = row.share ?? row.localShare;
    const note = [row.pod, share == null ? row.counts ? "" : reason(row) : percent(share)].filter(Boolean).join(", ");
    return [row, node(3, row.counts ? "endpoint" : "endpoint bad", row.address, note)];
  });
}

const isIPv6 = (at) => at.startsWith("[") || at.split(":").length > 2;

// across puts columns beside each other, each in the middle.
function across(nodes) {
  const gap = 10, between = 56, width = [150, 270, 200, 220];
  const used = [0, 1, 2, 3].filter((c) => nodes.some((n) => n.column === c));
  const heightOf = (c) => nodes.filter((n) => n.column === c).reduce((h, n) => h + n.height + gap, -gap);
  const height = Math.max(...used.map(heightOf));
  let x = 1;
  for (const c of used) {
    let y = 1 + (height - heightOf(c)) / 2;
    for (const n of nodes.filter((o) => o.column === c)) {
      Object.assign(n, { x, y, width: width[c] });
      y += n.height + gap;
    }
    x += width[c] + between;
  }
  return {
    width: x - between + 1, height: height + 2,
    line(a, b) {
      const from = [a.x + a.width, a.y + a.height / 2], to = [b.x, b.y + b.height / 2], middle = (from[0] + to[0]) / 2;
      return `M${from} C${middle},${from[1]} ${middle},${to[1]} ${to}`;
    },
  };
}

// down puts all under each other, farther to the right the farther they are.
function down(nodes) {
  const gap = 12, indent = 16, whole = Math.max(280, document.documentElement.clientWidth - 34);
  let y = 1;
  for (const n of nodes) {
    Object.assign(n, { x: 1 + n.column * indent, y, width: whole - n.column * indent - 2 });
    y += n.height + gap;
  }
  return {
    width: whole, height: y - gap + 1,
    line: (a, b) => `M${a.x + indent / 2},${a.y + a.height} V${b.y + b.height / 2} H${b.x}`,
  };
}

// cut shortens what would not fit, in letters of 7 pixels.
function cut(text, width) {
  const room = Math.floor((width - 14) / 7);
  return text.length > room ? `${text.slice(0, room - 1)}…` : text;
}

const words = (nodes) => `From ${nodes.map((n) => (n.note ? `${n.text} (${n.note})` : n.text)).join(", ")}`;
