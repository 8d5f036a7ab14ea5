import { ago, chip, count, el, explainLink, fact, more, show, table } from "./dom.js";
import { Chart } from "./charts.js";
import { series } from "./series.js";

// Overview shows how the process is.
export class Overview {
  title = "Overview";

  constructor() {
    this.numbers = el("ul", { class: "numbers", "aria-label": "How many there are" });
    this.blocks = el("div");
    this.rate = new Chart("Queries", "a second", [{ name: "all", color: "--one" }, { name: "for Services", color: "--two", dash: [6, 4] }]);
    this.latency = new Chart("Time to answer", "ms", [{ name: "p50", color: "--one" }, { name: "p99", color: "--two", dash: [6, 4] }]);
    this.nat = new Chart("Time to write a change of NAT", "ms", [{ name: "p50", color: "--one" }, { name: "p99", color: "--two", dash: [6, 4] }]);
    this.charts = [this.rate, this.latency, this.nat];
    this.root = el("div", { class: "overview" }, el("h2", { class: "hidden" }, "Overview"), this.numbers,
      el("section", { class: "charts", "aria-label": "Since this page is open" }, this.charts.map((c) => c.root)), this.blocks);
  }

  overview(o) {
    const sum = (field) => o.blocks.reduce((n, b) => n + b[field], 0);
    const number = (name, n, href, class_) => el("li", { class: class_ }, el(href ? "a" : "span", { href }, el("strong", {}, count(n)), " ", name));
    const wrong = sum("wrong");
    show(this.numbers,
      number("Services", sum("services"), "#/services"), number("frontends", sum("frontends")), number("endpoints", sum("endpoints")),
      number("with something wrong", wrong, "#/services?wrong=1", wrong ? "wrong" : "ok"));
    show(this.blocks, o.blocks.length ? o.blocks.map((b) => block(b, Date.parse(o.at))) : el("p", {}, "No server block has a clusterip."));
    const s = series;
    this.rate.update(s.at, [s.queries, s.answers], "after a few seconds");
    this.latency.update(s.at, [s.p50, s.p99], s.measured ? "no queries yet" : "is measured with the plugin prometheus in the server block");
    this.nat.update(s.at, [s.nat50, s.nat99], "no change yet");
  }

  close() {
    this.charts.forEach((c) => c.close());
  }
}

function block(b, now) {
  return el("section", { class: "block" },
    el("h3", {}, b.zones.join(" ") || "No forward zone"),
    el("p", {}, chip(b.condition), b.text, "."),
    el("dl", {},
      fact("Serial", String(b.serial)),
      fact("Heard of all kinds of objects", b.heard && ago(b.heard, now)),
      fact("Process", b.source.process && String(b.source.process))),
    b.faults && el("details", { open: true }, el("summary", {}, "Faults in the manifests"), el("ul", { class: "plain" }, b.faults.map((f) => el("li", {}, f))), more(b.faultsLeft ?? 0)),
    b.nat ? el("div", { class: "families" }, b.nat.map((f) => family(f, now))) : el("p", { class: "faint" }, "This server block has no kernelnat."));
}

function family(f, now) {
  const written = !f.dryRun; // else these times and numbers are of what would be
  return el("section", { class: "family" },
    el("h4", {}, `NAT, ${f.family}`),
    el("p", {}, chip(f.condition), f.text, "."),
    el("dl", {},
      fact("Backend", f.backend), fact("Node", f.node), fact("Services with rules", written && `${count(f.services)}, ${count(f.ports)} ports`),
      fact("In step", written && ago(f.updated, now)), fact("Audited", written && ago(f.audited, now)), fact("Last failure", f.failed && ago(f.failed, now)),
      fact("Repairs", `${count(f.repairs)}${f.lastRepair ? `, the last ${ago(f.lastRepair.at, now)} of what ${f.lastRepair.by || "somebody else"} had changed` : ""}`)),
    f.lastRepair && el("details", {}, el("summary", {}, "What was repaired last"), el("ul", { class: "plain" }, f.lastRepair.what.map((w) => el("li", {}, el("code", {}, w))))),
    f.refused && [table("Refused frontends", ["Service", "Asked for", "Why"], f.refused.map((r) => [explainLink(r.service), r.at, r.why])), more(f.refusedLeft ?? 0)]);
}
