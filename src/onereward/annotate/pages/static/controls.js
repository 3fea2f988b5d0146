import { byId, closable, copyOf, part } from "./dom.js";
import { ACTIONS, keyOf, Keys, printed } from "./keys.js";
import { KeysDialog } from "./keys_dialog.js";

/** @import { Assignment } from "./types.js" */

/** The keys and buttons of the page of work, and the dialogs in which they are looked up and changed. */
export class Controls {
  #keys = new Keys({});
  #help = byId("help", HTMLDialogElement);
  #dialog;

  /**
   * @param {(action: string, repeated: boolean) => void} act
   * @param {(action: string) => void} released a key was let go
   * @param {(keys: Keys) => void} changed the person has given keys to actions
   */
  constructor(act, released, changed) {
    this.act = act;
    this.#dialog = new KeysDialog((keys) => {
      this.print(keys);
      changed(keys);
    });
    document.addEventListener("keydown", (event) => this.#onKey(event));
    document.addEventListener("keyup", (event) => released(this.#keys.action(keyOf(event) ?? "") ?? ""));
    document.addEventListener("mousedown", (event) => {
      const onButton = event.target instanceof Element && event.target.closest("#item button:not(.question)");
      if (onButton) event.preventDefault(); // the focus stays on the question: the keyboard goes on where it was
    });
    for (const button of document.querySelectorAll("button[data-action]")) {
      const action = /** @type {HTMLElement} */ (button).dataset.action ?? "";
      button.addEventListener("click", () => this.act(action, false));
    }
    byId("open-keys", HTMLButtonElement).addEventListener("click", () => this.#dialog.open(this.#keys));
    byId("help-keys", HTMLButtonElement).addEventListener("click", () => {
      this.#help.close();
      this.#dialog.open(this.#keys);
    });
    closable(this.#help);
  }

  /**
   * An action's key, as it is printed.
   * @param {string} action
   */
  of(action) {
    return printed(this.#keys.of(action));
  }

  /**
   * Print the keys wherever the page names them.
   * @param {Keys} [keys] other ones, that hold from now on
   */
  print(keys = this.#keys) {
    this.#keys = keys;
    for (const label of document.querySelectorAll("[data-key-of]")) {
      if (label instanceof HTMLElement) label.textContent = this.of(label.dataset.keyOf ?? "");
    }
  }

  /** @param {Assignment | null} item that is asked about */
  openHelp(item) {
    const questions = (item?.dimensions ?? []).map(({ title, question }) => filled("help-question", { title, question }));
    byId("help-questions", HTMLElement).replaceChildren(...questions);
    const places = ACTIONS.filter(({ name }) => name.startsWith("choose_")).slice(0, item?.candidates.length);
    const usual = places.every(({ name, key }) => this.#keys.of(name) === key);
    const shown = (usual ? [places[0], places[places.length - 1]] : places).map(({ name }) => this.of(name));
    const key = shown.join(usual ? " … " : " ");
    const others = ACTIONS.filter(({ name }) => !name.startsWith("choose_"));
    byId("help-list", HTMLElement).replaceChildren(
      filled("help-row", { key, title: "A candidate: first the best, then the worst" }),
      ...others.map(({ name, title }) => filled("help-row", { key: this.of(name), title })),
    );
    this.#help.showModal();
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const key = keyOf(event);
    if (key === null || document.querySelector("dialog[open]") !== null) return;
    const onControl = event.target instanceof Element && event.target.closest("button:not(.question), a, input");
    if (onControl && (key === "Enter" || key === "Space")) return; // they press what has the focus
    const action = this.#keys.action(key);
    if (action === undefined) return;
    event.preventDefault();
    this.act(action, event.repeat);
  }
}

/**
 * A copy of a template with these texts.
 * @param {string} template
 * @param {Record<string, string>} texts by the names of its parts
 */
function filled(template, texts) {
  const made = copyOf(template);
  for (const [name, text] of Object.entries(texts)) part(made, name, HTMLElement).textContent = text;
  return made;
}
