// Why an object has its score: the factors of it, and where in its region the evidence for its class lies.
//
// The map looks as detector/io/heat_map.py draws it.

import { element } from "./elements.js";

const OPACITY = 0.6;
const PIXELS = 24; // a side of a cell, before the browser stretches the map over its region
const LONGER_SIDE = 800; // of the canvas: a map of seven cells has no finer detail
const WORDS = { predicted_iou: "predicted IoU" };

// OpenCV's colour map "turbo" at equal steps, from no evidence to the most.
const TURBO = [
  [48, 18, 59], [67, 78, 186], [70, 133, 250], [40, 188, 235], [26, 228, 182], [85, 250, 118], [164, 252, 60],
  [217, 228, 54], [250, 186, 57], [251, 129, 34], [229, 71, 11], [185, 30, 2], [122, 4, 3],
];

/** "probability 0.93 × predicted IoU 0.71^0.5", the power raised. */
export function factorLine({ factors }) {
  const line = element("span", "factors");
  factors.forEach(({ name, value, power }, i) => {
    const factor = element("span", "factor", `${i ? "× " : ""}${WORDS[name] ?? name} ${figures(value)}`);
    if (power !== 1) factor.append(element("span", "visually-hidden", " to the power "), element("sup", "", figures(power)));
    line.append(i ? " " : "", factor);
  });
  return line;
}

function figures(value) {
  return String(Number(value.toPrecision(3)));
}

let drawn; // the explanation whose map the canvas holds

/** Draws the map of an explanation over a picture of this size; with none the canvas is hidden. */
export function drawHeat(canvas, explanation, size) {
  canvas.hidden = !explanation;
  if (!explanation || explanation === drawn) return;
  drawn = explanation;
  const scale = LONGER_SIDE / Math.max(size.width, size.height);
  canvas.width = Math.max(1, Math.round(size.width * scale));
  canvas.height = Math.max(1, Math.round(size.height * scale));
  const [x1, y1, x2, y2] = explanation.region.map((side) => side * scale);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(coloured(explanation.activation), x1, y1, x2 - x1, y2 - y1); // what lies outside is cut off
}

/** The rows of a map as a canvas; the least of it is transparent, as is evidence against the class. */
function coloured(rows) {
  const least = Math.max(0, Math.min(...rows.flat()));
  const range = Math.max(...rows.flat()) - least;
  const shares = rows.map((row) => row.map((value) => (range > 0 ? clipped((value - least) / range) : 0)));
  const wide = shares.map(stretched); // along the rows, then along the columns of that
  const columns = wide[0].map((_, x) => stretched(wide.map((row) => row[x])));
  const canvas = Object.assign(document.createElement("canvas"), { width: columns.length, height: columns[0].length });
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  columns.forEach((column, x) =>
    column.forEach((share, y) => {
      const heat = clipped(share);
      image.data.set([...turbo(heat), 255 * OPACITY * Math.min(2 * heat, 1)], 4 * (y * canvas.width + x));
    }),
  );
  context.putImageData(image, 0, 0);
  return canvas;
}

/** Values in a row, with PIXELS for each by cubic convolution; beyond the ends they go on as they end. */
function stretched(values) {
  return Array.from({ length: values.length * PIXELS }, (_, pixel) => {
    const place = (pixel + 0.5) / PIXELS - 0.5;
    const first = Math.floor(place) - 1;
    let sum = 0;
    for (let i = first; i < first + 4; i++) sum += values[Math.min(Math.max(i, 0), values.length - 1)] * cubic(Math.abs(place - i));
    return sum;
  });
}

/** The weight of a value at this distance (Keys 1981, a = -0.75 as in OpenCV). */
function cubic(distance) {
  if (distance <= 1) return (1.25 * distance - 2.25) * distance ** 2 + 1;
  return distance < 2 ? -0.75 * (((distance - 5) * distance + 8) * distance - 4) : 0;
}

function turbo(share) {
  const step = Math.min(Math.floor(share * (TURBO.length - 1)), TURBO.length - 2);
  const rest = share * (TURBO.length - 1) - step;
  return TURBO[step].map((value, i) => value + rest * (TURBO[step + 1][i] - value));
}

function clipped(value) {
  return Math.min(Math.max(value, 0), 1);
}
