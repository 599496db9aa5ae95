// The page: what the user does, and what it shows then.

import { Camera, available as cameraAvailable } from "./camera.js";
import { draw, enumerate, png, screenStyle } from "./drawing.js";
import { at } from "./elements.js";
import { acceptUploads } from "./uploads.js";
import { clearNotice, complain } from "./notice.js";
import { chosen, chosenClasses, offer, onChoice } from "./offers.js";
import { activate, pin } from "./pointing.js";
import { fillChips, fillList, fillTiming, shown, updateChips } from "./results.js";
import { ServiceError, address, detect, ready } from "./service.js";
import { state } from "./state.js";
import { copy, curl, json, tally } from "./texts.js";

// Once a picture is sent, the sliders choose among all of these without another request.
const ASKED = { score_threshold: 0.05, max_detections: 300 };
const COUNTS = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300];
const KEY = "api-key";

const key = () => sessionStorage.getItem(KEY);

// A picture comes

acceptUploads(at.file, take, complain);

function take(file, note = "") {
  if (at.camera.contains(document.activeElement)) at.file.focus();
  camera.stop();
  state.request?.abort();
  Object.assign(state, { file, reply: null, visible: [], active: null, pinned: null });
  state.classes.clear();
  URL.revokeObjectURL(at.picture.src);
  at.picture.src = URL.createObjectURL(file);
  at.picture.alt = file.name;
  at.name.textContent = file.name;
  at.caption.textContent = note;
  document.body.dataset.state = "picture";
  at.frame.classList.remove("unseen");
  renderReply();
  ask();
}

at.picture.addEventListener("load", () => {
  if (!state.reply) proportion(at.picture.naturalWidth, at.picture.naturalHeight);
  renderDrawing();
});
at.picture.addEventListener("error", () => at.frame.classList.add("unseen")); // the service says what is wrong

function proportion(width, height) {
  at.frame.style.setProperty("--w", width);
  at.frame.style.setProperty("--h", height);
}

// It is sent

async function ask() {
  if (!state.file) return;
  state.request?.abort();
  const request = (state.request = new AbortController());
  const asked = { ...ASKED, ...chosen() };
  clearNotice();
  at.status.textContent = `Looking at ${state.file.name}.`;
  busy("Looking");
  renderStale();
  try {
    const reply = await detectOnceReady(asked, request.signal);
    enumerate(await chosenClasses(key()));
    if (request !== state.request) return;
    const before = state.visible[state.pinned];
    state.reply = reply;
    state.asked = new URLSearchParams(asked).toString();
    state.auto = asked.score_threshold === "auto";
    for (const label of state.classes) {
      if (!reply.detections.some((one) => one.label === label)) state.classes.delete(label);
    }
    renderReply();
    keepPinned(before);
    at.status.textContent = state.visible.length ? `Found ${tally(state.visible)}.` : "Nothing was found.";
  } catch (error) {
    if (request !== state.request) return;
    if (error.name === "AbortError") complain("Cancelled.", 0); // by hand: a new picture has a request of its own
    else fail(error);
  } finally {
    if (request === state.request) {
      state.request = null;
      idle();
      renderStale();
    }
  }
}

/** What was brought out stays so, if the new reply holds it too: the same object, now explained. */
function keepPinned(before) {
  const same = ({ label, box }) => label === before.label && JSON.stringify(box) === JSON.stringify(before.box);
  const index = before ? state.visible.findIndex(same) : -1;
  if (index >= 0) activate((state.pinned = index));
}

/** A service that has just been started loads its weights first: the picture waits for that. */
async function detectOnceReady(asked, signal) {
  for (;;) {
    try {
      return await detect(state.file, asked, key(), signal);
    } catch (error) {
      if (error.code !== "not_ready") throw error;
    }
    at.status.textContent = at.phase.textContent = "The service is starting";
    await ready(signal);
    offerChoices();
    at.phase.textContent = "Looking";
  }
}

let clock;

function busy(phase) {
  at.busy.hidden = false;
  at.phase.textContent = phase;
  clearInterval(clock);
  const start = performance.now();
  const tick = () => (at.elapsed.textContent = `${((performance.now() - start) / 1000).toFixed(1)} s`);
  tick();
  clock = setInterval(tick, 100);
}

function idle() {
  clearInterval(clock);
  const focused = at.busy.contains(document.activeElement);
  at.busy.hidden = true;
  if (focused) (at.retry.hidden || at.retry.disabled ? at.summary : at.retry).focus();
}

at.cancel.addEventListener("click", () => state.request?.abort());

// Something goes wrong

function fail(error) {
  const told = error instanceof ServiceError;
  if (!told) console.error(error);
  at.status.textContent = "";
  if (error.code === "unauthorized") {
    sessionStorage.removeItem(KEY);
    complain(error.message);
    at["key-form"].hidden = false;
    at.key.focus();
  } else {
    complain(told ? error.message : `The page has failed: ${error.message}`, told ? error.retry : 0);
  }
}

at.retry.addEventListener("click", () => {
  ask();
  at.cancel.focus();
});
at["key-form"].addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at.key.value.trim());
  at.key.value = "";
  offerChoices();
  renderCode();
  ask();
});

// The reply is shown

function renderReply() {
  const { reply } = state;
  fillChips(at.chips, reply?.detections ?? [], toggleClass);
  at.timing.hidden = !reply;
  if (reply) {
    proportion(reply.width, reply.height);
    fillTiming(at["timing-bar"], at["timing-list"], reply.timing_ms);
    const frames = reply.frames > 1 ? [`first of ${reply.frames} frames`] : [];
    at.caption.textContent = [`${reply.width} × ${reply.height}`, ...frames, reply.model].join(" · ");
  }
  renderChoice();
}

/** Everything that the sliders and the filter change. */
function renderChoice() {
  const all = state.reply?.detections ?? [];
  state.visible = shown(all, state);
  state.active = state.pinned = null;
  updateChips(at.chips, all, state);
  fillList(at.list, state.visible, (index) => activate(index ?? state.pinned), pin);

  const found = state.visible.length;
  const objects = found === 1 ? "1 object" : `${found || "No"} objects`;
  at.summary.textContent = state.reply ? objects : "Nothing yet";
  const more = all.length === ASKED.max_detections ? "the best " : "";
  const which = state.auto ? "that score what their class needs" : `that score ${ASKED.score_threshold} or more`;
  at["summary-more"].textContent = all.length ? `of ${more}${all.length} ${which}` : "";
  at.nothing.hidden = !state.reply || found > 0;
  at.nothing.textContent = nothingSays(all);
  at.threshold.setAttribute("aria-valuetext", `${state.threshold.toFixed(2)}${state.reply ? `, ${objects}` : ""}`);
  at.count.setAttribute("aria-valuetext", `${state.count}${state.reply ? `, ${objects}` : ""}`);
  at.download.disabled = !state.reply;
  if (state.reply) at.picture.alt = `${state.file.name}: ${tally(state.visible) || "nothing found"}`;
  renderDrawing();
  renderCode();
}

function nothingSays(all) {
  if (all.length) return `Nothing scores ${state.threshold.toFixed(2)} or more; the best has ${all[0].score.toFixed(2)}. Lower the score.`;
  if (state.auto) return "Nothing scores what its class needs. Without Auto, less certain objects are shown.";
  return "The detector knows nothing in this picture.";
}

function renderDrawing() {
  const { width } = at.overlay.getBoundingClientRect();
  const scale = state.reply ? width / state.reply.width : 0;
  at.overlay.replaceChildren(
    ...(scale ? [draw(state.visible, width, state.reply.height * scale, scale, screenStyle(width))] : []),
  );
  activate(state.active);
}

function renderCode() {
  const choice = { score_threshold: state.threshold, max_detections: state.count };
  const settings = { ...choice, ...chosen(), ...(state.classes.size && { classes: [...state.classes].join(",") }) };
  at.curl.textContent = curl(address("detect", settings), state.file?.name ?? "picture.jpg", Boolean(key()));
  at["json-block"].hidden = !state.reply;
  at.json.textContent = state.reply ? json(state.reply, state.visible) : "";
}

/** A result that is not of the present settings says so, until there is one or for good. */
function renderStale() {
  const old = Boolean(state.reply) && state.asked !== new URLSearchParams({ ...ASKED, ...chosen() }).toString();
  document.body.classList.toggle("old", old);
  at.stale.hidden = !old;
}

// Settings

function slider(input, output, write) {
  const update = () => {
    output.textContent = write(Number(input.value));
    input.style.setProperty("--fill", (input.value - input.min) / (input.max - input.min));
  };
  input.addEventListener("input", () => {
    update();
    renderChoice();
  });
  update();
  return update;
}

at.count.max = COUNTS.length - 1;
at.count.value = COUNTS.indexOf(state.count);
const renderThreshold = slider(at.threshold, at["threshold-value"], (value) => {
  state.threshold = value;
  return at.auto.checked ? "auto" : value.toFixed(2);
});
slider(at.count, at["count-value"], (value) => (state.count = COUNTS[value]));

function toggleClass(label) {
  if (!state.classes.delete(label)) state.classes.add(label);
  renderChoice();
}

onChoice(() => {
  renderThreshold();
  renderCode();
  ask();
});

async function offerChoices() {
  await offer(key());
  renderThreshold();
  renderCode();
}

// Webcam, download, copying

const camera = new Camera(at.video, (on) => {
  at.camera.hidden = !on;
  at["camera-start"].hidden = on || !cameraAvailable;
  at["camera-take"].disabled = true;
  if (on) at["camera-stop"].focus();
  document.body.classList.toggle("filming", on);
});
at["camera-start"].hidden = !cameraAvailable;
at["camera-start"].addEventListener("click", async () => {
  clearNotice();
  try {
    await camera.start();
  } catch (error) {
    complain(error.message);
  }
});
at.video.addEventListener("playing", () => {
  at["camera-take"].disabled = false;
  at["camera-take"].focus();
});
at["camera-take"].addEventListener("click", async () => take(await camera.take()));
at["camera-stop"].addEventListener("click", () => {
  camera.stop();
  at["camera-start"].focus();
});

at.download.addEventListener("click", async () => {
  try {
    const blob = await png(at.picture, state.visible, state.reply, at.heat);
    const link = Object.assign(document.createElement("a"), {
      href: URL.createObjectURL(blob),
      download: `${state.file.name.replace(/\.[^.]*$/, "")}-detected.png`,
    });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // by then the browser has it
  } catch (error) {
    complain(`The picture cannot be saved: ${error.message}`);
  }
});

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await copy(at[button.dataset.copy]);
      button.textContent = "Copied";
      at.status.textContent = "Copied.";
    } catch {
      button.textContent = "Select it and copy";
    }
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

new ResizeObserver(renderDrawing).observe(at.overlay);
renderChoice();
offerChoices();
