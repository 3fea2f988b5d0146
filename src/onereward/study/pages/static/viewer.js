import { byId, closable, pressed, say } from "./dom.js";

const MOST = 16;
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
  #index = 0;
  #scale = 1;
  #x = 0.5;
  #y = 0.5;

  constructor() {
    closable(this.#dialog);
    byId("zoom-in", HTMLButtonElement).addEventListener("click", () => this.#zoomTo(this.#scale * STEP));
    byId("zoom-out", HTMLButtonElement).addEventListener("click", () => this.#zoomTo(this.#scale / STEP));
    byId("zoom-fit", HTMLButtonElement).addEventListener("click", () => this.#zoomTo(1));
    this.#dialog.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#lay()).observe(this.#well);
    this.#gestures();
  }

  get isOpen() {
    return this.#dialog.open;
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
    this.#zoomTo(1);
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
    this.#index = index;
    this.#image.src = this.#files[index];
    for (const [at, tab] of [...this.#tabs.querySelectorAll("button")].entries()) {
      pressed(tab, at === index);
      if (at === index) this.#image.alt = tab.textContent ?? "";
    }
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[/** @type {keyof typeof moves} */ (event.key)];
    const digit = Number(event.key);
    if (move !== undefined) this.#move((0.1 * move[0]) / this.#scale, (0.1 * move[1]) / this.#scale);
    else if (event.key === "+" || event.key === "=") this.#zoomTo(this.#scale * STEP);
    else if (event.key === "-") this.#zoomTo(this.#scale / STEP);
    else if (event.key === "0") this.#zoomTo(1);
    else if (digit >= 1 && digit <= this.#files.length) this.#show(digit - 1);
    else return;
    event.preventDefault();
  }

  /**
   * Enlarge around a point (shares of the picture), which stays where it is.
   * @param {number} scale
   * @param {number} [x]
   * @param {number} [y]
   */
  #zoomTo(scale, x = this.#x, y = this.#y) {
    const bounded = Math.min(Math.max(scale, 1), MOST);
    const shrink = this.#scale / bounded;
    this.#scale = bounded;
    this.#move((x - this.#x) * (1 - shrink), (y - this.#y) * (1 - shrink));
  }

  /**
   * @param {number} x
   * @param {number} y
   */
  #move(x, y) {
    const half = 0.5 / this.#scale;
    this.#x = Math.min(Math.max(this.#x + x, half), 1 - half);
    this.#y = Math.min(Math.max(this.#y + y, half), 1 - half);
    this.#lay();
  }

  /** The size of the whole picture in the window, before it is enlarged. */
  #fitted() {
    const scale = Math.min(this.#well.clientWidth / this.#size.width, this.#well.clientHeight / this.#size.height);
    return { width: this.#size.width * scale, height: this.#size.height * scale };
  }

  #lay() {
    const { width, height } = this.#fitted();
    const [left, top] = [
      this.#well.clientWidth / 2 - this.#x * width * this.#scale,
      this.#well.clientHeight / 2 - this.#y * height * this.#scale,
    ];
    this.#image.style.width = `${width}px`;
    this.#image.style.height = `${height}px`;
    this.#image.style.transform = `translate(${left}px, ${top}px) scale(${this.#scale})`;
    this.#image.classList.toggle("pixels", (width * this.#scale) / this.#size.width > 3 && this.#scale > 1);
    say(this.#zoom, `${Math.round(this.#scale * 100)} %`);
  }

  /** Zoom and move by wheel, drag and pinch. */
  #gestures() {
    /** @type {Map<number, {x: number, y: number}>} */
    const fingers = new Map();
    /** @param {{x: number, y: number}} at */
    const pointAt = ({ x, y }) => {
      const box = this.#well.getBoundingClientRect();
      const { width, height } = this.#fitted();
      return [
        this.#x + (x - box.left - box.width / 2) / (width * this.#scale),
        this.#y + (y - box.top - box.height / 2) / (height * this.#scale),
      ];
    };
    this.#well.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.#zoomTo(this.#scale * 1.002 ** -event.deltaY, ...pointAt({ x: event.clientX, y: event.clientY }));
      },
      { passive: false },
    );
    this.#well.addEventListener("dblclick", (event) =>
      this.#zoomTo(this.#scale > 1.01 ? 1 : 3, ...pointAt({ x: event.clientX, y: event.clientY })),
    );
    this.#well.addEventListener("pointerdown", (event) => {
      this.#well.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    });
    this.#well.addEventListener("pointermove", (event) => {
      const finger = fingers.get(event.pointerId);
      if (finger === undefined) return;
      const [dx, dy, spread] = [event.clientX - finger.x, event.clientY - finger.y, spreadOf(fingers)];
      Object.assign(finger, { x: event.clientX, y: event.clientY });
      if (spread > 0) this.#zoomTo((this.#scale * spreadOf(fingers)) / spread, ...pointAt(middleOf(fingers)));
      const { width, height } = this.#fitted();
      const share = this.#scale * fingers.size; // of two fingers that move together each moves it half the way
      this.#move(-dx / (width * share), -dy / (height * share));
    });
    for (const end of ["pointerup", "pointercancel"]) {
      this.#well.addEventListener(end, (event) => fingers.delete(/** @type {PointerEvent} */ (event).pointerId));
    }
  }
}

/** @param {Map<number, {x: number, y: number}>} fingers */
function spreadOf(fingers) {
  const [first, second] = [...fingers.values()];
  return second === undefined ? 0 : Math.hypot(first.x - second.x, first.y - second.y);
}

/** @param {Map<number, {x: number, y: number}>} fingers */
function middleOf(fingers) {
  const [first, second] = [...fingers.values()];
  return { x: (first.x + second.x) / 2, y: (first.y + second.y) / 2 };
}
