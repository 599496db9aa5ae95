// What the page shows for programs: the reply as JSON, and the command that asks for it.

/** The curl command for a picture of this name. A key is named, never shown. */
export function curl(url, name, hasKey) {
  const path = /[;,"\\]/.test(name) ? `"${name.replaceAll(/["\\]/g, "\\$&")}"` : name; // curl's own quoting
  const key = hasKey ? ` -H "X-API-Key: $API_KEY"` : "";
  return `curl -F ${quoted(`file=@${path}`)}${key} \\\n  ${quoted(url)}`;
}

/** The reply, indented, with a line for each detection. */
export function json(reply, detections) {
  const lines = Object.entries(reply).map(([key, value]) => {
    if (key !== "detections" || !detections.length) return `  ${JSON.stringify(key)}: ${JSON.stringify(key === "detections" ? [] : value)}`;
    return `  "detections": [\n${detections.map((one) => `    ${JSON.stringify(one)}`).join(",\n")}\n  ]`;
  });
  return `{\n${lines.join(",\n")}\n}`;
}

/** "3 dogs"-like words for a count: the names of classes have no plural that a rule could make. */
export function tally(detections) {
  const counts = new Map();
  for (const { label } of detections) counts.set(label, (counts.get(label) ?? 0) + 1);
  return [...counts].map(([label, count]) => (count > 1 ? `${label} (${count})` : label)).join(", ");
}

/** Copies an element's text; throws where the browser does not let it. */
export async function copy(element) {
  if (navigator.clipboard) return navigator.clipboard.writeText(element.textContent);
  getSelection().selectAllChildren(element); // an http page that is not localhost has no clipboard
  if (!document.execCommand("copy")) throw new Error("the browser does not copy");
}

function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
