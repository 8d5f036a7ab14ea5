/* global uPlot */
import { el } from "./dom.js";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const dark = matchMedia("(prefers-color-scheme: dark)");
const height = 150; // CSS pixels

// Chart draws lines over time, with what they are now in words.
export class Chart {
  constructor(title, unit, lines) {
    Object.assign(this, { title, unit, lines });
    this.place = el("div", { "aria-hidden": "true" });
    this.now = el("span", { class: "now" });
    this.root = el("figure", {}, el("figcaption", {}, title, " ", this.now), this.place);
    this.sized = new ResizeObserver(() => this.size());
    this.sized.observe(this.root);
    this.draw = this.draw.bind(this);
    dark.addEventListener("change", this.draw);
  }

  // update takes the times in seconds, and the values of each line.
  update(times, values, empty) {
    this.data = [times, ...values];
    const last = values.map((v) => v.findLast((x) => x != null));
    const words = this.lines.map((l, i) => last[i] != null && `${l.name} ${text(last[i])} ${this.unit}`).filter(Boolean);
    this.now.textContent = words.join(", ") || empty;
    if (!this.plot) this.draw();
    else this.plot.setData(this.data);
  }

  draw() {
    if (!this.data || !this.place.clientWidth) return;
    this.plot?.destroy();
    const axis = { stroke: color("--faint"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    this.plot = new uPlot({
      width: this.place.clientWidth, height, legend: { show: false }, cursor: { show: false },
      scales: { y: { range: (_, low, high) => [0, high > 0 ? 1.1 * high : 1] } },
      axes: [{ ...axis, space: 70, size: 28, values: "{HH}:{mm}:{ss}" }, { ...axis, size: 46 }],
      series: [{}, ...this.lines.map((l) => ({ label: l.name, stroke: color(l.color), width: 2, dash: l.dash, spanGaps: true, points: { show: this.data[0].length < 12, size: 5 } }))],
    }, this.data, this.place);
  }

  size() {
    if (!this.plot) this.draw();
    else this.plot.setSize({ width: this.place.clientWidth, height });
  }

  close() {
    this.sized.disconnect();
    dark.removeEventListener("change", this.draw);
    this.plot?.destroy();
  }
}

const text = (n) => (n >= 100 ? n.toFixed(0) : n >= 1 ? n.toFixed(1) : n.toFixed(2));
