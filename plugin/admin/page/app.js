// What is shown is said by the part of the address behind "#". While the page is visible an
// overview is asked for every few seconds, and the view asks for what it shows besides.

import { chip, el } from "./dom.js";
import { Overview } from "./overview.js";
import { Services } from "./services.js";
import { Explanation } from "./explain.js";
import { record } from "./series.js";

const period = 5000; // ms
const views = new Map([["", Overview], ["services", Services], ["explain", Explanation]]);
const main = document.getElementById("main");
const state = document.getElementById("state");
const target = document.getElementById("target");
const from = document.getElementById("from");

let view, timer, asked;

// Unknown is in the place of a view that there is not.
class Unknown {
  title = "No such view";
  root = el("p", { class: "verdict wrong", role: "alert" }, chip("wrong"), `There is no view ${location.hash}. `, el("a", { href: "#/" }, "Overview"));
}

// ask returns the JSON at a path, or an Error with the sentence of the server.
async function ask(path, query = {}) {
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`, { signal: asked.signal });
  if (!answer.ok) throw new Error((await answer.text()).trim() || answer.statusText);
  return answer.json();
}

async function tick() {
  clearTimeout(timer);
  if (document.hidden) return;
  const shown = view;
  try {
    const overview = await ask("/overview");
    record(overview);
    shown.overview?.(overview);
    await shown.update?.();
    say("");
  } catch (err) {
    if (err.name === "AbortError") return;
    say(`The process does not answer: ${err.message}. Trying again.`);
  }
  clearTimeout(timer);
  timer = setTimeout(tick, period);
}

function say(text) {
  if (state.textContent !== text) state.textContent = text;
}

function route(event) {
  if (location.hash === "#main") return main.focus();
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  asked?.abort();
  asked = new AbortController();
  const params = new URLSearchParams(query);
  const View = views.get(path) ?? Unknown;
  const sameView = view instanceof View && view.turnTo?.(params);
  if (!sameView) {
    view?.close?.();
    view = new View(params, ask);
    main.replaceChildren(view.root);
    document.title = `${view.title} · clusterip`;
    if (event) main.focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  target.value = path === "explain" ? params.get("target") ?? "" : "";
  from.value = params.get("from") ?? "";
  for (const a of document.querySelectorAll("nav a")) {
    if (a.hash === `#/${path}`) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  tick();
}

document.getElementById("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const query = { target: target.value.trim() };
  if (from.value.trim()) query.from = from.value.trim();
  const next = `#/explain?${new URLSearchParams(query)}`;
  if (location.hash === next) route();
  else location.hash = next;
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, textarea, select");
  if (event.key === "/" && !typing) {
    event.preventDefault();
    target.focus();
    target.select();
  } else if (event.key === "Escape" && typing) {
    event.target.blur();
  } else if (!typing) {
    view?.key?.(event);
  }
});
document.addEventListener("visibilitychange", tick);
addEventListener("hashchange", route);
main.replaceChildren(el("p", {}, "Loading…"));
route();
