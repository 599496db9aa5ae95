// The list of detections, the classes to filter by, and the timings.

import { classId, colour } from "./drawing.js";
import { element } from "./elements.js";
import { factorLine } from "./explanation.js";

const STEPS = ["queue", "decode", "trunk", "proposals", "regions"];

/** What is shown of a reply: its chosen classes (none chosen: all), over the threshold, the best `count`. */
export function shown(detections, { least, count, classes }) {
  return detections
    .filter(({ label, score }) => score >= least && (!classes.size || classes.has(label)))
    .slice(0, count);
}

/** One button a class, the best first; made once a reply, so that the focus stays where it is. */
export function fillChips(parent, detections, toggle) {
  const ids = new Map(detections.map((detection) => [detection.label, classId(detection)]));
  parent.replaceChildren(
    ...[...ids].map(([label, id]) => {
      const chip = element("button", "chip");
      chip.type = "button";
      chip.dataset.label = label;
      chip.append(swatch(id), label, element("span", "number"));
      chip.addEventListener("click", () => toggle(label));
      return chip;
    }),
  );
}

/** Counts and states of these buttons; a class with nothing over the threshold has none. */
export function updateChips(parent, detections, { least, classes }) {
  for (const chip of parent.children) {
    const { label } = chip.dataset;
    const count = detections.filter((one) => one.label === label && one.score >= least).length;
    chip.hidden = !count && !classes.has(label);
    chip.setAttribute("aria-pressed", classes.has(label));
    chip.lastChild.textContent = count;
  }
  const choice = [...parent.children].filter((chip) => !chip.hidden).length;
  parent.hidden = choice < 2 && !classes.size; // nothing to choose between
}

/** An entry for each detection. `activate(index)` is called as one is pointed at or focused, with null after. */
export function fillList(parent, detections, activate, pin) {
  parent.replaceChildren(
    ...detections.map((detection, index) => {
      const { label, score, box, explanation } = detection;
      const id = classId(detection);
      const entry = element("button", "entry");
      entry.type = "button";
      entry.dataset.index = index;
      const corners = [box.xmin, box.ymin, box.xmax, box.ymax].map(Math.round);
      entry.title = `${corners.slice(0, 2).join(", ")} to ${corners.slice(2).join(", ")} (pixels)`;
      const meter = element("span", "meter");
      meter.style.setProperty("--score", score);
      meter.style.setProperty("--tint", colour(id));
      entry.append(swatch(id), element("span", "label", label), element("span", "number", score.toFixed(2)), meter);
      if (explanation) entry.append(factorLine(explanation));
      entry.addEventListener("focus", () => activate(index));
      entry.addEventListener("blur", () => activate(null));
      entry.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && activate(index));
      entry.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && activate(null));
      entry.addEventListener("click", () => pin(index));
      const item = element("li");
      item.append(entry);
      return item;
    }),
  );
}

/** Where the time went, as a bar and as figures. */
export function fillTiming(bar, list, timing) {
  const steps = STEPS.filter((step) => step in timing);
  bar.replaceChildren(
    ...steps.map((step) => {
      const part = element("span", step);
      part.style.flexGrow = timing[step] / Math.max(timing.total, 1e-6);
      return part;
    }),
  );
  list.replaceChildren(
    ...["total", ...steps].map((step) => {
      const row = element("div", step);
      row.append(element("dt", "", step), element("dd", "number", duration(timing[step])));
      return row;
    }),
  );
}

function duration(milliseconds) {
  return milliseconds < 10 ? `${milliseconds.toFixed(1)} ms` : `${Math.round(milliseconds).toLocaleString("en")} ms`;
}

function swatch(id) {
  const mark = element("span", "swatch");
  mark.style.background = colour(id);
  return mark;
}
