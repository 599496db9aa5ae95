// Detections as an SVG drawing over a picture, on the screen and in a PNG.
//
// Sizes, places of tags and colours follow detector/io/visualization.py, so that a picture drawn here and one drawn
// by the service look alike.

const NAMESPACE = "http://www.w3.org/2000/svg";
const FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
const GOLDEN_RATIO = 0.618034;
const MOST_PIXELS = 4096 * 4096; // a canvas of more comes out empty in some browsers

const pen = document.createElement("canvas").getContext("2d");

let labels = new Map();

/** The ids of all classes, label by label, which give them their colours from now on. */
export function enumerate(ids) {
  labels = new Map(ids.map((id, label) => [id, label]));
}

/** The id of a detection's class: a WordNet id, or another. */
export function classId({ wnid, class_id }) {
  return wnid ?? class_id;
}

/** The colour of a class, the same in every picture. */
export function colour(id) {
  const label = labels.get(id) ?? hashed(id);
  const lightness = [76, 66, 86][label % 3];
  const hue = 360 * ((0.08 + label * GOLDEN_RATIO) % 1);
  return `oklch(${lightness}% 0.15 ${hue.toFixed(2)})`;
}

/** A number in place of an unknown label (FNV-1a). */
function hashed(id) {
  let hash = 0x811c9dc5;
  for (const letter of id) hash = Math.imul(hash ^ letter.codePointAt(0), 0x01000193) >>> 0;
  return hash % 997;
}

/** What is drawn how large on the screen, in CSS pixels, whatever the size of the picture. */
export function screenStyle(width) {
  const font = width < 480 ? 11 : 12.5;
  return { font, line: 2.5, radius: 4, padding: 5, tag: Math.round(1.5 * font) };
}

/** The same for a file, where everything takes a share of the picture. */
function fileStyle(width, height) {
  const unit = Math.sqrt(width * height) / 100;
  const font = Math.max(11, Math.round(2.9 * unit));
  return {
    font,
    line: Math.max(2, Math.round(0.5 * unit)),
    radius: Math.round(0.35 * font),
    padding: Math.round(0.4 * font),
    tag: Math.round(1.5 * font),
  };
}

/**
 * An SVG element of width x height with a frame and a tag for each detection, best first as they came; boxes
 * are in pixels of the picture, `scale` of them a unit of the drawing. The better lies on top.
 */
export function draw(detections, width, height, scale, style) {
  const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width, height });
  pen.font = `600 ${style.font}px ${FAMILY}`;
  const boxes = detections.map(({ box }) => within(box, scale, width, height));
  const texts = detections.map(({ label, score }) => shortened(label, score, width - 2 * style.padding));
  const tags = placeTags(boxes, texts, width, height, style);

  const order = detections.map((_, i) => i).reverse();
  for (const i of order) svg.append(frame(boxes[i], colour(classId(detections[i])), style, i));
  for (const i of order) svg.append(tag(tags[i], texts[i], colour(classId(detections[i])), style, i));
  return svg;
}

/**
 * The picture with its detections as a PNG blob; `size` is that of the picture the boxes refer to. The canvas
 * `heat`, unless it is hidden, lies between them, as on the screen.
 */
export async function png(image, detections, size, heat) {
  const longer = Math.max(size.width, size.height);
  let scale = longer < 480 ? 720 / longer : 1; // text on less would be illegible
  scale = Math.min(scale, Math.sqrt(MOST_PIXELS / (size.width * size.height)));
  const width = Math.max(1, Math.round(size.width * scale));
  const height = Math.max(1, Math.round(size.height * scale));
  const svg = draw(detections, width, height, scale, fileStyle(width, height));

  const drawing = new Image();
  const url = URL.createObjectURL(new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" }));
  try {
    drawing.src = url;
    await drawing.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width, height });
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    if (!heat.hidden) context.drawImage(heat, 0, 0, width, height);
    context.drawImage(drawing, 0, 0, width, height);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    if (!blob) throw new Error("the browser cannot draw a picture of this size");
    return blob;
  } finally {
    URL.revokeObjectURL(url);
  }
}

function make(name, attributes) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function within(box, scale, width, height) {
  const x1 = Math.min(Math.max(box.xmin * scale, 0), width - 1);
  const y1 = Math.min(Math.max(box.ymin * scale, 0), height - 1);
  return [x1, y1, Math.min(Math.max(box.xmax * scale, x1 + 1), width), Math.min(Math.max(box.ymax * scale, y1 + 1), height)];
}

function shortened(label, score, room) {
  let name = label;
  let text = `${name} ${score.toFixed(2)}`;
  while (name && pen.measureText(text).width > room) {
    name = name.slice(0, -1);
    text = `${name}… ${score.toFixed(2)}`;
  }
  return text;
}

/** A place for each tag, the best detection's first: free if there is one, else the least covered. */
function placeTags(boxes, texts, width, height, style) {
  const taken = [];
  boxes.forEach((box, i) => {
    const tagWidth = Math.min(width, pen.measureText(texts[i]).width + 2 * style.padding);
    let best, least = Infinity;
    for (const place of tagPlaces(box, tagWidth, width, height, style)) {
      const covered = taken.reduce((sum, other) => sum + shared(place, other), 0);
      if (covered < least) [best, least] = [place, covered];
      if (covered === 0) break;
    }
    taken.push(best);
  });
  return taken;
}

/** Where a tag may go, most wanted first: on the box, in its top corners, under it, at its bottom. */
function tagPlaces([x1, y1, x2, y2], tagWidth, width, height, style) {
  const tall = Math.min(height, style.tag);
  const anchors = [
    [x1, y1 - tall], [x1, y1], [x2 - tagWidth, y1 - tall], [x2 - tagWidth, y1],
    [x1, y2], [x1, y2 - tall], [x2 - tagWidth, y2], [x2 - tagWidth, y2 - tall],
  ];
  for (let y = y1 + tall; y < y2 - tall; y += tall) anchors.push([x1, y]);
  let inside = anchors.filter(([, y]) => y >= 0 && y <= height - tall);
  if (!inside.length) inside = [[x1, 0]];
  return inside.map(([x, y]) => {
    const left = Math.min(Math.max(x, 0), width - tagWidth);
    return [left, y, left + tagWidth, y + tall];
  });
}

function shared(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  return Math.max(width, 0) * Math.max(height, 0);
}

function frame([x1, y1, x2, y2], tint, style, index) {
  const halo = Math.max(0.75, style.line / 3); // dark lines around the coloured one part it from a background like it
  const group = make("g", { class: "box", "data-index": index });
  const outer = style.line + 2 * halo;
  const shape = {
    x: x1 + outer / 2,
    y: y1 + outer / 2,
    width: Math.max(1, x2 - x1 - outer),
    height: Math.max(1, y2 - y1 - outer),
    rx: style.radius,
  };
  group.append(
    make("rect", { ...shape, class: "area", fill: tint, "fill-opacity": 0, stroke: "#000", "stroke-opacity": 0.35, "stroke-width": outer }),
    make("rect", { ...shape, class: "line", fill: "none", stroke: tint, "stroke-width": style.line }),
  );
  return group;
}

function tag([x1, y1, x2, y2], text, tint, style, index) {
  const group = make("g", { class: "tag", "data-index": index });
  const words = make("text", {
    x: x1 + style.padding,
    y: (y1 + y2) / 2 + 0.36 * style.font, // half the height of a capital: baselines of SVG differ by browser
    fill: "#000",
    "font-family": FAMILY,
    "font-size": style.font,
    "font-weight": 600,
  });
  words.textContent = text;
  group.append(make("rect", { x: x1, y: y1, width: x2 - x1, height: y2 - y1, rx: style.radius, fill: tint, "fill-opacity": 0.94 }), words);
  return group;
}
