import { ago, chip, count, el, explainLink, fact, more, show, table } from "./dom.js";
import { share } from "./services.js";
import { path } from "./path.js";
import { force, outcome, reason } from "./words.js";

const narrow = matchMedia("(max-width: 700px)");

// Explanation shows what `coredns explain` says of a target: the same value.
export class Explanation {
  constructor(params, ask) {
    this.query = Object.fromEntries(params);
    this.title = this.query.target ?? "Explain";
    this.root = el("article", { "aria-busy": "true" }, el("p", {}, "Asking…"));
    this.redraw = () => this.value && this.render(this.value);
    narrow.addEventListener("change", this.redraw);
    this.asked = ask("/explain", this.query).then((e) => this.render((this.value = e)), (err) => this.fail(err));
  }

  fail(err) {
    if (err.name === "AbortError") return;
    this.root.removeAttribute("aria-busy");
    show(this.root, el("p", { class: "verdict wrong", role: "alert" }, chip("wrong"), err.message));
  }

  close() {
    narrow.removeEventListener("change", this.redraw);
  }

  render(e) {
    this.root.removeAttribute("aria-busy");
    const first = e.steps.find((s) => s.condition === "wrong");
    show(this.root,
      el("h2", { class: `verdict ${e.works ? "ok" : "wrong"}`, role: "status" }, chip(e.works ? "ok" : "wrong"), e.verdict),
      first?.mend && el("p", { class: "mend" }, "To mend it: ", el("strong", {}, first.mend)),
      e.near && el("p", {}, "Was this meant? ", e.near.map((n) => [explainLink(n), " "])),
      e.service && el("figure", { class: "path" }, el("figcaption", {}, "The path of a packet, thick where most go"), path(e, narrow.matches)),
      el("ol", { class: "steps" }, e.steps.map((s) => el("li", {}, chip(s.condition), el("b", {}, s.step), " ", s.text, s.mend && s !== first && el("span", { class: "mend" }, ` To mend it: ${s.mend}`)))),
      e.names && names(e), e.service && service(e.service), (e.nat ?? []).map(family), e.flows && flows(e.flows), source(e));
  }
}

const names = (e) => table("Names", ["Name", "Why", "Records"], e.names.map((n) => [
  n.answers ? el("b", {}, n.name) : n.name, n.why,
  [n.outcome !== "records" && el("span", { class: "faint" }, outcome(n)), el("ul", { class: "plain" }, (n.records ?? []).map((r) =>
    el("li", {}, el("code", {}, `${r.type} ${r.data}`), " ", el("span", { class: "faint" }, `${r.ttl} s${r.why ? `, ${r.why}` : ""}`)))), more(n.left ?? 0)]]));

function service(s) {
  return [
    el("dl", {}, fact("Service", s.name), fact("Kind", s.kind), fact("ClusterIPs", s.clusterIPs?.join(", ")), fact("External name", s.externalName), fact("Ports", s.ports?.join(", "))),
    s.hints && el("ul", { class: "plain" }, s.hints.map((h) => el("li", {}, h))),
    s.endpoints && table("Endpoints", ["Endpoint", "Port", "Pod", "Node", "Zone", "State", "Counts", "Share", "Connections"], s.endpoints.map((e) => [
      el("code", {}, e.address), e.port, e.pod, e.node, e.zone, e.state, e.counts ? "yes" : el("span", { class: "why" }, `no: ${reason(e)}`),
      (e.share ?? e.localShare) == null ? null : share(e), e.connections == null ? null : count(e.connections)])),
    more(s.left ?? 0)];
}

function family(f) {
  return [
    table(`Frontends, ${f.family}`, ["Frontend", "Kind", "In force", "What a packet meets in the kernel", "Connections"], f.frontends.map((t) => [
      el("code", {}, t.at), t.kind,
      [el("span", { class: t.verdict === "forward" ? "" : "why" }, force(t, !f.looked || f.wrong || t.wrong)), t.client && `; a connection of the client ${t.client}`],
      [t.meets && el("ul", { class: "plain" }, t.meets.map((m) => el("li", {}, el("code", {}, m)))), t.wrong && el("ul", { class: "plain why" }, t.wrong.map((m) => el("li", {}, m)))],
      t.connections == null ? null : count(t.connections)])),
    el("dl", {}, fact("Backend", f.backend), fact("Node", f.node), fact("In step", !f.dryRun && f.updated && ago(f.updated)), fact("The kernel", f.looked ? "was looked at" : `was not looked at: ${f.whyNot || "dry_run is set"}`),
      fact("Left out", f.excess), fact("Waiting", f.waiting), fact("Error", f.error),
      fact("Last repair", f.lastRepair && `${ago(f.lastRepair.at)}, of what ${f.lastRepair.by || "somebody else"} had changed: ${f.lastRepair.what.join("; ")}`)),
    (f.wrong ?? []).concat(f.others ?? []).map((w) => el("p", { class: "why" }, w))];
}

const flows = (f) => [
  f.whyNot ? el("p", { class: "faint" }, `Connections: ${f.whyNot}`)
    : table(`Connections that the kernel tracks: ${count(f.total)}`, ["Protocol", "Client", "To", "Endpoint"], (f.some ?? []).map((x) => [x.protocol, x.client, x.to, [x.endpoint, x.stale && el("span", { class: "why" }, " stale")]]))];

const source = (e) => el("p", { class: "faint" }, `From ${e.source.place}, process ${e.source.process ?? "none"}. `,
  el("a", { href: `/explain?${new URLSearchParams({ target: e.target, ...(e.from && { from: e.from.pod ?? e.from.address }) })}`, target: "_blank", rel: "noopener" }, "JSON"));
