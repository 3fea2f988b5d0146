import { byId, closable, copyOf, part } from "./dom.js";
import { ACTIONS, keyOf, Keys, printed } from "./keys.js";
import { KeysDialog } from "./keys_dialog.js";

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

  openHelp() {
    const rows = ACTIONS.map(({ name, title }) => {
      const row = copyOf("help-row");
      part(row, "key", HTMLElement).textContent = this.of(name);
      part(row, "title", HTMLElement).textContent = title;
      return row;
    });
    byId("help-list", HTMLElement).replaceChildren(...rows);
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
