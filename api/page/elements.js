// The elements of the page that have an id.

export const at = Object.fromEntries([...document.querySelectorAll("[id]")].map((one) => [one.id, one]));
