import { chip, count, el, explainLink, more, percent, show } from "./dom.js";
import { force, reason } from "./words.js";

// Services shows a page of them, as the server cuts it.
export class Services {
  title = "Services";

  constructor(params, ask) {
    this.ask = ask;
    this.search = el("input", { type: "search", maxlength: "300", autocomplete: "off", autocapitalize: "none", spellcheck: "false", placeholder: "Part of a name, or an address", "aria-label": "Search Services" });
    this.wrong = el("input", { type: "checkbox" });
    this.sum = el("p", { role: "status" });
    this.list = el("ul", { class: "rows", "aria-label": "Services" });
    this.pager = el("nav", { class: "pager", "aria-label": "Pages" });
    this.root = el("section", {}, el("h2", { class: "hidden" }, "Services"),
      el("div", { class: "filter" }, this.search, el("label", {}, this.wrong, "Only what is wrong")), this.sum, this.list, this.pager);
    this.search.addEventListener("input", () => this.turn());
    this.wrong.addEventListener("change", () => this.turn());
    this.turnTo(params);
  }

  // turnTo shows what the address says; the view stays.
  turnTo(params) {
    this.page = params.get("page") ?? "1";
    if (document.activeElement !== this.search) this.search.value = params.get("search") ?? "";
    this.wrong.checked = params.has("wrong");
    return true;
  }

  href(page) {
    const query = new URLSearchParams();
    if (this.search.value.trim()) query.set("search", this.search.value.trim());
    if (this.wrong.checked) query.set("wrong", "1");
    if (page > 1) query.set("page", page);
    return `#/services${query.size ? `?${query}` : ""}`;
  }

  // turn follows what is typed, when the typing rests.
  turn() {
    clearTimeout(this.resting);
    this.resting = setTimeout(() => {
      history.replaceState(null, "", this.href(1));
      dispatchEvent(new HashChangeEvent("hashchange"));
    }, 250);
  }

  async update() {
    const query = { search: this.search.value.trim(), page: this.page };
    if (this.wrong.checked) query.wrong = "1";
    const l = await this.ask("/services", query);
    this.sum.textContent = `${count(l.matching)} of ${count(l.total)} Services; something is wrong with ${count(l.wrong)}.`;
    show(this.list, l.rows.length ? l.rows.map(row) : el("li", { class: "faint" }, "None."));
    show(this.pager, l.pages > 1 && [
      l.page > 1 && el("a", { href: this.href(l.page - 1), rel: "prev" }, "← Previous"),
      el("span", {}, `Page ${count(l.page)} of ${count(l.pages)}`),
      l.page < l.pages && el("a", { href: this.href(l.page + 1), rel: "next" }, "Next →")]);
  }

  // key moves from row to row.
  key(event) {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (!step) return;
    const links = [...this.list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    const next = links[at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step];
    if (!next) return;
    event.preventDefault();
    next.focus();
    next.closest("li").scrollIntoView({ block: "nearest" });
  }

  close() {
    clearTimeout(this.resting);
  }
}

function row(r) {
  const all = (r.endpoints?.length ?? 0) + (r.endpointsLeft ?? 0);
  return el("li", { class: "row" },
    el("div", { class: "who" }, el("h3", {}, chip(r.works ? "ok" : "wrong"), explainLink(r.name)),
      el("span", { class: "faint" }, [r.kind, r.externalName && `→ ${r.externalName}`].filter(Boolean).join(" ")),
      (r.names ?? []).map((n) => el("span", { class: "faint name" }, n)),
      !r.works && el("span", { class: "why" }, r.verdict)),
    el("ul", { class: "plain", "aria-label": "Frontends" }, (r.frontends ?? []).map((f) =>
      el("li", {}, el("code", {}, f.at), f.verdict !== "forward" && el("span", { class: f.verdict === "refused" ? "why" : "faint" }, ` ${force(f)}`))), r.frontendsLeft ? el("li", {}, more(r.frontendsLeft)) : null),
    el("ul", { class: "plain", "aria-label": "Endpoints" }, (r.endpoints ?? []).map((e) => el("li", {}, share(e), el("code", {}, e.address), " ", el("span", { class: "faint" }, e.counts ? e.pod : reason(e)))),
      all > 4 ? el("li", {}, more(all - r.endpoints.length)) : null));
}

// share is a bar as long as what an endpoint gets of new connections.
export function share(e) {
  const part = e.share ?? e.localShare;
  if (part == null) return el("span", { class: "share" }, e.counts ? "" : "–");
  const bar = el("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", part);
  return el("span", { class: "share" }, bar, percent(part));
}
