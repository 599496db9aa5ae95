// Boxes and entries of the list point at each other.

import { at } from "./elements.js";
import { drawHeat } from "./explanation.js";
import { state } from "./state.js";

/** Brings out one of the visible detections, or with null none, in the picture and in the list; lays its heat
 * map over the picture, where it is explained. */
export function activate(index) {
  state.active = index;
  for (const one of document.querySelectorAll("#overlay [data-index], #list [data-index]")) {
    one.classList.toggle("active", Number(one.dataset.index) === index);
  }
  at.overlay.classList.toggle("pointing", index !== null);
  drawHeat(at.heat, state.visible[index]?.explanation, state.reply);
}

/** Keeps one brought out, or lets it go again. */
export function pin(index) {
  state.pinned = state.pinned === index ? null : index;
  activate(state.pinned ?? index);
  at.overlay.scrollIntoView({ block: "nearest" }); // on a phone, the list lies below the picture
}

/** The smallest box under the pointer: a larger one can be pointed at beside it. */
function under(event) {
  const { left, top, width } = at.overlay.getBoundingClientRect();
  const scale = state.reply.width / width;
  const [x, y] = [(event.clientX - left) * scale, (event.clientY - top) * scale];
  const area = ({ box }) => (box.xmax - box.xmin) * (box.ymax - box.ymin);
  const hit = state.visible.filter(({ box }) => box.xmin <= x && x <= box.xmax && box.ymin <= y && y <= box.ymax);
  return hit.length ? state.visible.indexOf(hit.reduce((a, b) => (area(b) < area(a) ? b : a))) : null;
}

at.overlay.addEventListener("pointermove", (event) => {
  if (state.reply && event.pointerType === "mouse") activate(under(event) ?? state.pinned);
});
at.overlay.addEventListener("pointerleave", () => activate(state.pinned));
at.overlay.addEventListener("click", (event) => {
  if (!state.reply) return;
  const index = under(event);
  state.pinned = index === state.pinned ? null : index;
  activate(state.pinned);
  const beside = matchMedia("(min-width: 900px)").matches; // else the picture would be scrolled away
  if (state.pinned !== null && beside) at.list.children[index].scrollIntoView({ block: "nearest" });
});
