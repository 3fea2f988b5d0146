import { byId, closable, pressed, say } from "./dom.js";
import { gestures, View } from "./view.js";

const STEP = 1.5;

/** Pictures of one size, one at a time in the whole window; zoom and place stay when another one is shown. */
export class Viewer {
  #dialog = byId("viewer", HTMLDialogElement);
  #well = byId("well", HTMLElement);
  #image = byId("enlarged", HTMLImageElement);
  #tabs = byId("tabs", HTMLElement);
  #zoom = byId("zoom", HTMLElement);
  /** @type {string[]} */
  #files = [];
  #size = { width: 1, height: 1 };
  #view = new View(() => this.#lay());

  constructor() {
    const view = this.#view;
    closable(this.#dialog);
    byId("zoom-in", HTMLButtonElement).addEventListener("click", () => view.zoomTo(view.scale * STEP));
    byId("zoom-out", HTMLButtonElement).addEventListener("click", () => view.zoomTo(view.scale / STEP));
    byId("zoom-fit", HTMLButtonElement).addEventListener("click", () => view.reset());
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#lay()).observe(this.#well);
    let tapped = [0.5, 0.5];
    gestures(this.#well, view, () => this.#fitted(), (x, y) => (tapped = [x, y]));
    this.#well.addEventListener("dblclick", () => view.zoomTo(view.scale > 1.01 ? 1 : 3, ...tapped));
  }

  /**
   * @param {string[]} files addresses
   * @param {string[]} titles
   * @param {{width: number, height: number}} size
   * @param {number} index which is shown first
   */
  open(files, titles, size, index) {
    this.#files = files;
    this.#size = size;
    this.#tabs.replaceChildren(...titles.map((title, at) => this.#tab(title, at)));
    this.#dialog.showModal();
    this.#show(index);
    this.#view.reset();
    this.#tabs.querySelectorAll("button")[index]?.focus();
  }

  /**
   * @param {string} title
   * @param {number} index
   */
  #tab(title, index) {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.textContent = title;
    tab.addEventListener("click", () => this.#show(index));
    return tab;
  }

  /** @param {number} index */
  #show(index) {
    this.#image.src = this.#files[index];
    for (const [at, tab] of [...this.#tabs.querySelectorAll("button")].entries()) {
      pressed(tab, at === index);
      if (at === index) this.#image.alt = tab.textContent ?? "";
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const view = this.#view;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    const digit = Number(event.key);
    if (move !== undefined) view.move((0.1 * move[0]) / view.scale, (0.1 * move[1]) / view.scale);
    else if (event.key === "+" || event.key === "=") view.zoomTo(view.scale * STEP);
    else if (event.key === "-") view.zoomTo(view.scale / STEP);
    else if (event.key === "0") view.reset();
    else if (digit >= 1 && digit <= this.#files.length) this.#show(digit - 1);
    else return;
    event.preventDefault();
  }

  /** The size of the whole picture in the window, before it is enlarged. */
  #fitted() {
    const scale = Math.min(this.#well.clientWidth / this.#size.width, this.#well.clientHeight / this.#size.height);
    return { width: this.#size.width * scale, height: this.#size.height * scale };
  }

  #lay() {
    const { scale, x, y } = this.#view;
    const { width, height } = this.#fitted();
    const [left, top] = [
      this.#well.clientWidth / 2 - x * width * scale,
      this.#well.clientHeight / 2 - y * height * scale,
    ];
    this.#image.style.width = `${width}px`;
    this.#image.style.height = `${height}px`;
    this.#image.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    this.#image.classList.toggle("pixels", (width * scale) / this.#size.width > 3 && scale > 1);
    say(this.#zoom, `${Math.round(scale * 100)} %`);
  }
}
