import { byId, copyOf, part, pressed } from "./dom.js";
import { Viewer } from "./viewer.js";

/** @import { Trial } from "./types.js" */
/** @import { Pictures } from "./pictures.js" */

/**
 * @typedef {object} Frame
 * @property {HTMLElement} element
 * @property {HTMLElement} box
 * @property {HTMLImageElement} image
 * @property {HTMLCanvasElement} outline
 * @property {HTMLElement} title
 */

/** The source and what is judged beside it, with the outline of what was to change over both. */
export class Stage {
  #row = byId("pictures", HTMLElement);
  #outlines = byId("outlines", HTMLButtonElement);
  #swap = byId("swap", HTMLButtonElement);
  #viewer = new Viewer();
  /** @type {Frame[]} the source's first */
  #frames = [];
  /** @type {string[]} the addresses of what the frames hold */
  #files = [];
  /** @type {Path2D | null} */
  #outline = null;
  #size = { width: 1, height: 1 };

  constructor() {
    this.#outlines.addEventListener("click", () => this.toggleOutline());
    this.#swap.addEventListener("click", () => this.swap(!pressed(this.#swap)));
    byId("enlarge", HTMLButtonElement).addEventListener("click", () => this.enlarge(1));
    new ResizeObserver(() => this.#draw()).observe(this.#row);
  }

  /** Whether pictures are shown at present. */
  get ready() {
    return this.#files.length > 0;
  }

  /**
   * Make room for a trial whose pictures may come later.
   * @param {Trial} trial
   */
  prepare(trial) {
    this.#size = { width: trial.width, height: trial.height };
    this.#files = [];
    this.#outline = null;
    pressed(this.#swap, false);
    const titles = ["Original", ...titlesOf(trial)];
    this.#frames = titles.map((title, index) => this.#frame(title, index));
    this.#row.replaceChildren(...this.#frames.map(({ element }) => element));
    this.#row.dataset.count = String(trial.pictures.length);
    this.#row.setAttribute("aria-busy", "true");
    this.#row.style.setProperty("--ratio", String(trial.width / trial.height));
  }

  /**
   * Show the pictures that a place was made for; returns when all are painted.
   * @param {Pictures} pictures
   */
  async show(pictures) {
    this.#files = [pictures.source, ...pictures.shown];
    this.#outline = pictures.outline;
    await Promise.all(this.#frames.map(({ image }, index) => paint(image, this.#files[index])));
    this.#row.setAttribute("aria-busy", "false");
    this.#draw();
  }

  toggleOutline() {
    pressed(this.#outlines, !pressed(this.#outlines));
    this.#draw();
  }

  /**
   * Show the source in the place of what is judged, or take it back.
   * @param {boolean} swapped
   */
  swap(swapped) {
    if (!this.ready || swapped === pressed(this.#swap)) return;
    pressed(this.#swap, swapped);
    for (const [index, frame] of this.#frames.entries()) {
      if (index === 0) continue;
      void paint(frame.image, this.#files[swapped ? 0 : index]);
      frame.element.classList.toggle("swapped", swapped);
      frame.title.textContent = swapped ? "Original" : (frame.element.dataset.title ?? "");
    }
  }

  /**
   * Show all pictures one at a time, as large as the window.
   * @param {number} index which first
   */
  enlarge(index) {
    if (!this.ready) return;
    const titles = this.#frames.map(({ element }) => element.dataset.title ?? "");
    this.#viewer.open(this.#files, titles, this.#size, index);
  }

  /**
   * @param {string} title
   * @param {number} index
   * @returns {Frame}
   */
  #frame(title, index) {
    const element = copyOf("frame");
    element.dataset.title = title;
    if (index === 0) element.classList.add("source");
    const frame = {
      element,
      box: part(element, "box", HTMLElement),
      image: part(element, "image", HTMLImageElement),
      outline: part(element, "outline", HTMLCanvasElement),
      title: part(element, "title", HTMLElement),
    };
    frame.title.textContent = title;
    frame.image.alt = index === 0 ? "The original picture" : `The picture to judge${title === "Result" ? "" : `, ${title.toLowerCase()}`}`;
    frame.box.addEventListener("click", () => this.enlarge(index));
    frame.box.setAttribute("aria-label", `Enlarge: ${title.toLowerCase()}`);
    return frame;
  }

  #draw() {
    for (const { outline: canvas } of this.#frames) {
      canvas.width = Math.round(canvas.clientWidth * devicePixelRatio);
      canvas.height = Math.round(canvas.clientHeight * devicePixelRatio);
      const context = canvas.getContext("2d");
      if (context === null || this.#outline === null || !pressed(this.#outlines)) continue;
      const scale = canvas.width / this.#size.width;
      context.setTransform(scale, 0, 0, scale, 0, 0);
      const pixel = devicePixelRatio / scale;
      context.lineWidth = 3 * pixel;
      context.lineJoin = "round";
      context.strokeStyle = "#000b";
      context.stroke(this.#outline);
      context.lineWidth = 1.5 * pixel;
      context.strokeStyle = "#fff";
      context.setLineDash([6 * pixel, 4 * pixel]);
      context.stroke(this.#outline);
    }
  }
}

/** @param {Trial} trial */
function titlesOf({ pictures }) {
  return pictures.length === 2 ? ["Left", "Right"] : ["Result"];
}

/**
 * @param {HTMLImageElement} image
 * @param {string} address
 */
async function paint(image, address) {
  image.src = address;
  await image.decode().catch(() => {}); // one that was replaced meanwhile
}
