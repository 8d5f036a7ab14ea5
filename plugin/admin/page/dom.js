// Elements are made of text alone: nothing that comes from the cluster is ever read as markup.

const svgNamespace = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat(Infinity).filter((c) => c != null && c !== false && c !== ""));
  return node;
}

export const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(svgNamespace, tag), attributes, children);

// show puts nodes into a place, unless they are there already, and keeps the focus.
export function show(place, ...nodes) {
  const next = nodes.flat(Infinity).filter(Boolean);
  if (place.childNodes.length === next.length && next.every((n, i) => n.isEqualNode(place.childNodes[i]))) return;
  const focused = place.contains(document.activeElement) && document.activeElement.getAttribute("href");
  place.replaceChildren(...next);
  if (focused) [...place.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus();
}

const isEmpty = (cell) => cell == null || cell === "" || (Array.isArray(cell) && cell.every((c) => !c));

// table is readable on a phone too, where each row is a block and each cell says what it is.
// Columns that have a head alone are left out.
export function table(caption, allHeads, allRows) {
  const kept = (_, i) => allRows.length === 0 || allRows.some((cells) => !isEmpty(cells[i]));
  const heads = allHeads.filter(kept), rows = allRows.map((cells) => cells.filter(kept));
  return el("table", {}, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, heads.map((h) => el("th", { scope: "col" }, h)))),
    el("tbody", {}, rows.map((cells) => el("tr", {}, cells.map((c, i) =>
      isEmpty(c) ? el("td", { class: "empty" }) : el("td", { "data-head": heads[i] }, el("div", {}, c)))))));
}

const marks = { ok: "✓", notice: "i", unknown: "?", wrong: "✗" };

// chip says a condition by a sign, a colour and a word for those who hear it.
export const chip = (condition) =>
  el("span", { class: `chip ${condition}` }, el("span", { "aria-hidden": "true" }, marks[condition] ?? "?"), el("span", { class: "hidden" }, `${condition}: `));

export const count = (n) => n.toLocaleString("en");
export const percent = (share) => `${(100 * share).toFixed(1)} %`;
export const explainLink = (target, text = target) => el("a", { href: `#/explain?${new URLSearchParams({ target })}` }, text);

export function ago(time, now = Date.now()) {
  if (!time) return "never";
  const seconds = Math.max(0, (now - Date.parse(time)) / 1000);
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= 2 * length) return `${Math.floor(seconds / length)} ${unit} ago`;
  }
  return `${Math.floor(seconds)} s ago`;
}

export const more = (n) => n > 0 && el("span", { class: "faint" }, `and ${count(n)} more`);

// fact is a term and what is known of it, in a list of those.
export const fact = (term, ...what) => what.some((w) => w != null && w !== "" && w !== false) && el("div", {}, el("dt", {}, term), el("dd", {}, what));
