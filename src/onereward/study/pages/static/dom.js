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
