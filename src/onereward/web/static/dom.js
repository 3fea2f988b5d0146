/**
 * The element of the page with this id.
 * @template {Element} T
 * @param {string} id
 * @param {new () => T} type what it has to be
 * @returns {T}
 */
export function byId(id, type) {
  return typed(document.getElementById(id), type, `#${id}`);
}

/**
 * The element inside another one whose data-part is `name`.
 * @template {Element} T
 * @param {ParentNode} parent
 * @param {string} name
 * @param {new () => T} type
 * @returns {T}
 */
export function part(parent, name, type) {
  return typed(parent.querySelector(`[data-part="${name}"]`), type, name);
}

/**
 * A copy of what a <template> holds.
 * @param {string} id
 * @returns {HTMLElement}
 */
export function copyOf(id) {
  const first = byId(id, HTMLTemplateElement).content.firstElementChild;
  return typed(first?.cloneNode(true) ?? null, HTMLElement, `#${id}`);
}

/**
 * Set an element's text, which a screen reader hears only where it changes.
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Set an element's text, also where it is the same: a live region is read again.
 * @param {Element} region
 * @param {string} text
 */
export function announce(region, text) {
  region.textContent = "";
  requestAnimationFrame(() => {
    region.textContent = text;
  });
}

/**
 * Close a dialog by its close buttons and by a click beside it; Escape closes it anyway.
 * @param {HTMLDialogElement} dialog
 */
export function closable(dialog) {
  for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());
  dialog.addEventListener("mousedown", (event) => {
    if (event.target === dialog) dialog.close();
  });
}

/**
 * Whether a button is pressed, or press it.
 * @param {HTMLButtonElement} button
 * @param {boolean} [pressed]
 */
export function pressed(button, pressed) {
  if (pressed !== undefined) button.setAttribute("aria-pressed", String(pressed));
  return button.getAttribute("aria-pressed") === "true";
}

/**
 * "1 answer", "2 answers".
 * @param {number} count
 * @param {string} noun
 */
export function counted(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/**
 * A time as people say it: "18 s", "12 min", "3 h 5 min".
 * @param {number} seconds
 */
export function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.round(hours / 24)} days`;
}

/**
 * @template {Element} T
 * @param {unknown} found
 * @param {new () => T} type
 * @param {string} name
 * @returns {T}
 */
function typed(found, type, name) {
  if (found instanceof type) return found;
  throw new Error(`the page has no ${type.name} ${name}`);
}
