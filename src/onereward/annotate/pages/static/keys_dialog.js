import { announce, byId, closable, copyOf, part } from "./dom.js";
import { ACTIONS, keyOf, Keys, printed } from "./keys.js";

/** The dialog in which a person gives keys to actions; nothing holds before it is saved. */
export class KeysDialog {
  #dialog = byId("keys", HTMLDialogElement);
  #list = byId("keys-list", HTMLElement);
  #said = byId("keys-said", HTMLElement);
  #keys = new Keys({});
  /** @type {string | null} the action that waits for its key */
  #asking = null;

  /** @param {(keys: Keys) => void} save */
  constructor(save) {
    closable(this.#dialog);
    for (const { name, title } of ACTIONS) this.#list.append(this.#row(name, title));
    this.#dialog.addEventListener("keydown", (event) => this.#onKey(event));
    this.#dialog.addEventListener("close", () => (this.#asking = null));
    byId("keys-reset", HTMLButtonElement).addEventListener("click", () => {
      this.#show(new Keys({}));
      announce(this.#said, "All keys are the usual ones. Save to keep them.");
    });
    byId("keys-save", HTMLButtonElement).addEventListener("click", () => {
      save(this.#keys);
      this.#dialog.close();
    });
  }

  /** @param {Keys} keys */
  open(keys) {
    this.#said.textContent = "Choose an action, then press its key. Delete turns its key off.";
    this.#show(keys);
    this.#dialog.showModal();
  }

  /**
   * @param {string} name
   * @param {string} title
   */
  #row(name, title) {
    const row = copyOf("keys-row");
    const button = part(row, "key", HTMLButtonElement);
    part(row, "title", HTMLElement).textContent = title;
    button.dataset.gives = name;
    button.addEventListener("click", () => {
      this.#asking = name;
      this.#show(this.#keys);
      announce(this.#said, `Press the key for: ${title}. Escape keeps the old one.`);
    });
    button.addEventListener("blur", () => {
      if (this.#asking !== name) return;
      this.#asking = null;
      this.#show(this.#keys);
    });
    return row;
  }

  /** @param {Keys} keys */
  #show(keys) {
    this.#keys = keys;
    for (const button of this.#list.querySelectorAll("button")) {
      const action = button.dataset.gives ?? "";
      const title = ACTIONS.find(({ name }) => name === action)?.title;
      const key = action === this.#asking ? "press a key" : printed(keys.of(action));
      button.textContent = key;
      button.setAttribute("aria-label", `${title}: ${key}`);
      button.classList.toggle("asking", action === this.#asking);
    }
  }

  /** @param {KeyboardEvent} event */
  #onKey(event) {
    const key = keyOf(event);
    if (this.#asking === null || key === null || key === "Tab" || key === "Shift+Tab") return;
    event.preventDefault();
    event.stopPropagation();
    const action = this.#asking;
    this.#asking = null;
    if (key === "Escape") this.#show(this.#keys);
    else this.#give(action, key === "Delete" || key === "Backspace" ? "" : key);
  }

  /**
   * @param {string} action
   * @param {string} key
   */
  #give(action, key) {
    const before = this.#keys;
    this.#show(before.with(action, key));
    const other = ACTIONS.find(({ name }) => name !== action && before.of(name) !== this.#keys.of(name));
    const swapped = other ? ` ${printed(this.#keys.of(other.name))} is now for: ${other.title}.` : "";
    announce(this.#said, `${printed(key)} it is.${swapped} Save to keep it.`);
  }
}
