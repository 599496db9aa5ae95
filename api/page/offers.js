// What the service offers to choose from: models, their profiles, their classes.

import { at } from "./elements.js";
import { classes, models } from "./service.js";

const HINTS = {
  "": "What this service is set to",
  fast: "Only where MultiBox looks at a glance",
  balanced: "Adds the best boxes of selective search: slower, finds more",
  thorough: "More of both, from a larger look at the picture: slower, finds small things",
};

const EXPLAINED = 20; // the most that the service explains of a picture

const profiles = [...document.querySelectorAll("input[name=profile]")];
const classLists = new Map();
let offered = []; // models, as GET /models describes them

/** Asks the service and offers what it says. Nothing needs choosing: without an answer, defaults are asked for. */
export async function offer(key) {
  offered = await models(key);
  const before = at.model.value;
  at["model-field"].hidden = offered.length < 2;
  at.model.replaceChildren(...offered.map(({ name }) => new Option(name, name, false, name === before)));
  offerWhatServes();
}

/** What is chosen besides the sliders, as part of a query; nothing for what is the default. */
export function chosen() {
  const model = at.model.selectedIndex > 0 && at.model.value;
  const profile = profiles.find((radio) => radio.checked).value;
  return {
    ...(at.auto.checked && { score_threshold: "auto" }),
    ...(profile && { profile }),
    ...(model && { model }),
    ...(at.explain.checked && { explain: EXPLAINED }),
  };
}

/** Calls `changed` when something else is chosen. */
export function onChoice(changed) {
  for (const input of [at.model, ...profiles, at.auto, at.explain]) {
    input.addEventListener("change", () => {
      offerWhatServes();
      changed();
    });
  }
  offerWhatServes();
}

/** The ids of the chosen model's classes, label by label, asked for once; none while models are not known. */
export async function chosenClasses(key) {
  const model = at.model.value;
  if (model && !classLists.has(model)) classLists.set(model, classes(model, key));
  return classLists.get(model) ?? [];
}

/** What the chosen model can serve, and what comes of the choice. */
function offerWhatServes() {
  const model = offered.find(({ name }) => name === at.model.value);
  offerProfiles(model);
  offerAuto(model);
  at["explain-hint"].textContent = at.explain.checked
    ? `Of the best ${EXPLAINED}; choose one. Warm colours lie where the evidence for its class is.`
    : "";
}

/** The profiles that the model can serve; all of them while that is not known. */
function offerProfiles(model) {
  for (const radio of profiles) {
    const served = !radio.value || !model?.profiles || model.profiles.some(({ name }) => name === radio.value);
    radio.disabled = radio.parentElement.hidden = !served;
    if (radio.checked && !served) profiles[0].checked = true;
  }
  const { profile = "" } = chosen();
  const usual = !profile && model?.default_profile ? `: ${model.default_profile}` : "";
  at["profile-hint"].textContent = `${HINTS[profile]}${usual}.`;
}

/** Thresholds class by class, of a model whose weights have them. */
function offerAuto(model) {
  const precision = model?.precision_wanted ?? null;
  at["auto-field"].hidden = precision === null;
  at.auto.checked &&= precision !== null;
  at.threshold.disabled = at.auto.checked;
  at["auto-hint"].textContent = precision === null ? "" : `Class by class, where ${Math.round(100 * precision)} % was measured to be right.`;
}
