// The elements of the page that have an id, and new ones.

export const at = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));

export function element(name, className = "", text = "") {
  return Object.assign(document.createElement(name), { className, textContent: text });
}
