// What the service offers to choose from: models, their profiles, their classes.

import { at } from "./elements.js";
import { classes, models } from "./service.js";

const HINTS = {
  "": "What this service is set to",
  fast: "Only where MultiBox looks at a glance",
  balanced: "Adds the best boxes of selective search: slower, finds more",
  thorough: "More of both, from a larger look at the picture: slower, finds small things",
};

const profiles = [...document.querySelectorAll("input[name=profile]")];
const classLists = new Map();
let offered = []; // models, as GET /models describes them

/** Asks the service and offers what it says. Nothing needs choosing: without an answer, defaults are asked for. */
export async function offer(key) {
  offered = await models(key);
  const before = at.model.value;
  at["model-field"].hidden = offered.length < 2;
  at.model.replaceChildren(...offered.map(({ name }) => new Option(name, name, false, name === before)));
  offerProfiles();
}

/** The model and the profile that are chosen, as part of a query; nothing for what is the default. */
export function chosen() {
  const model = at.model.selectedIndex > 0 && at.model.value;
  const profile = profiles.find((radio) => radio.checked).value;
  return { ...(profile && { profile }), ...(model && { model }) };
}

/** Calls `changed` when another model or profile is chosen. */
export function onChoice(changed) {
  for (const input of [at.model, ...profiles]) {
    input.addEventListener("change", () => {
      offerProfiles();
      changed();
    });
  }
  offerProfiles();
}

/** The ids of the chosen model's classes, label by label, asked for once; none while models are not known. */
export async function chosenClasses(key) {
  const model = at.model.value;
  if (model && !classLists.has(model)) classLists.set(model, classes(model, key));
  return classLists.get(model) ?? [];
}

/** The profiles that the chosen model can serve; all of them while that is not known. */
function offerProfiles() {
  const model = offered.find(({ name }) => name === at.model.value);
  for (const radio of profiles) {
    const served = !radio.value || !model?.profiles || model.profiles.some(({ name }) => name === radio.value);
    radio.disabled = radio.parentElement.hidden = !served;
    if (radio.checked && !served) profiles[0].checked = true;
  }
  const { profile = "" } = chosen();
  const usual = !profile && model?.default_profile ? `: ${model.default_profile}` : "";
  at["profile-hint"].textContent = `${HINTS[profile]}${usual}.`;
}
