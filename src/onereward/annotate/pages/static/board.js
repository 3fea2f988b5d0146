import { byId, copyOf, part, pressed } from "./dom.js";
import { blank, differenceOf } from "./pictures.js";
import { gestures, View } from "./view.js";

/** @import { Assignment, Vote } from "./types.js" */
/** @import { Pictures } from "./pictures.js" */

/** How strongly a difference is shown, one after the other; 0 shows the candidate itself. */
const GAINS = [0, 1, 8];
const BAR_PIXELS = 44; // of a tile, below its picture
const GAP_PIXELS = 10;
const SCROLLED_SHARE = 0.75; // of the window, for all candidates together where the page scrolls

/**
 * @typedef {object} Tile
 * @property {HTMLElement} element
 * @property {HTMLCanvasElement} canvas
 * @property {HTMLButtonElement} best
 * @property {HTMLButtonElement} worst
 */

/** The source and its candidates, drawn on canvases that share one view. */
export class Board {
  #source = byId("source", HTMLCanvasElement);
  #grid = byId("grid", HTMLElement);
  #caption = byId("showing", HTMLElement);
  /** @type {Tile[]} */
  #tiles = [];
  /** @type {Assignment | null} */
  #item = null;
  /** @type {Pictures | null} */
  #pictures = null;
  /** @type {Map<string, HTMLCanvasElement>} differences and outlines that are drawn again and again */
  #made = new Map();
  #frame = 0;
  #flipped = false;
  #gain = 0;
  #cropped = false;
  view = new View(() => this.#viewChanged());

  /**
   * @param {(place: number) => void} chosen a picture was tapped
   * @param {(place: number, mark: "best" | "worst") => void} marked
   */
  constructor(chosen, marked) {
    this.chosen = chosen;
    this.marked = marked;
    this.buttons = {
      mask: byId("mask", HTMLButtonElement),
      crop: byId("crop", HTMLButtonElement),
      difference: byId("difference", HTMLButtonElement),
      flip: byId("flip", HTMLButtonElement),
    };
    const { flip } = this.buttons;
    flip.addEventListener("pointerdown", () => this.flip(true));
    for (const end of ["pointerup", "pointerleave", "pointercancel"]) {
      flip.addEventListener(end, () => this.flip(false));
    }
    flip.addEventListener("click", ({ detail }) => {
      if (detail === 0) this.flip(!pressed(flip)); // by keyboard
    });
    addEventListener("blur", () => this.flip(false));
    gestures(this.#source, this.view, () => this.#fitted(this.#source), () => {});
    const watcher = new ResizeObserver(() => this.#arrange());
    watcher.observe(this.#grid);
    watcher.observe(this.#source);
    addEventListener("resize", () => this.#arrange());
  }

  /** Whether the pictures of the present item are drawn. */
  get ready() {
    return this.#pictures !== null;
  }

  /**
   * Show an item; its pictures may come later.
   * @param {Assignment} item
   */
  show(item) {
    this.#item = item;
    this.#pictures = null;
    this.#made.clear();
    this.#flipped = false;
    this.#gain = 0;
    while (this.#tiles.length < item.candidates.length) this.#tiles.push(this.#tile(this.#tiles.length));
    this.#grid.replaceChildren(...this.#tiles.slice(0, item.candidates.length).map(({ element }) => element));
    this.#grid.dataset.shape = shapeOf(item);
    this.#grid.setAttribute("aria-busy", "true");
    this.#source.parentElement?.setAttribute("data-shape", shapeOf(item));
    this.#cropped = false;
    this.view.reset();
    this.#arrange();
  }

  /** @param {Pictures} pictures of the item that is shown */
  fill(pictures) {
    this.#pictures = pictures;
    this.#grid.setAttribute("aria-busy", "false");
    this.#drawNow();
  }

  /**
   * Mark the best and the worst.
   * @param {Vote} vote
   * @param {string} title of the dimension
   */
  mark(vote, title) {
    for (const [place, { element, best, worst }] of this.#tiles.entries()) {
      element.dataset.mark = vote.best === place ? "best" : vote.worst === place ? "worst" : "";
      pressed(best, vote.best === place);
      pressed(worst, vote.worst === place);
      best.setAttribute("aria-label", `Best: candidate ${place + 1}, ${title}`);
      worst.setAttribute("aria-label", `Worst: candidate ${place + 1}, ${title}`);
    }
  }

  toggleMask() {
    const { mask } = this.buttons;
    pressed(mask, !pressed(mask));
    this.#draw();
  }

  toggleCrop() {
    const box = this.#pictures?.mask.box;
    if (this.#cropped || !box) return this.view.reset();
    this.view.show(box);
    this.#cropped = true;
    this.#draw();
  }

  cycleDifference() {
    this.#gain = GAINS[(GAINS.indexOf(this.#gain) + 1) % GAINS.length];
    this.#draw();
  }

  /** @param {boolean} flipped whether the source takes the place of all candidates */
  flip(flipped) {
    if (flipped === this.#flipped) return;
    this.#flipped = flipped;
    this.#draw();
  }

  #viewChanged() {
    this.#cropped = false;
    this.#forgetOutlines();
    this.#draw();
  }

  #forgetOutlines() {
    for (const key of this.#made.keys()) if (key.startsWith("outline")) this.#made.delete(key);
  }

  /** @param {number} place */
  #tile(place) {
    const element = copyOf("tile");
    const canvas = part(element, "canvas", HTMLCanvasElement);
    const best = part(element, "best", HTMLButtonElement);
    const worst = part(element, "worst", HTMLButtonElement);
    part(element, "place", HTMLElement).textContent = String(place + 1);
    canvas.setAttribute("aria-label", `Candidate ${place + 1}`);
    best.addEventListener("click", () => this.marked(place, "best"));
    worst.addEventListener("click", () => this.marked(place, "worst"));
    gestures(canvas, this.view, () => this.#fitted(canvas), () => this.chosen(place));
    return { element, canvas, best, worst };
  }

  /** Give the pictures as much room as the window has. */
  #arrange() {
    if (this.#item === null) return;
    const scrolls = getComputedStyle(this.#grid).getPropertyValue("--scrolls") === "1";
    const height = scrolls ? innerHeight * SCROLLED_SHARE : this.#grid.clientHeight;
    this.#grid.dataset.columns = String(columnsFor(this.#item, this.#grid.clientWidth, height));
    this.#forgetOutlines();
    this.#draw();
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#drawNow());
  }

  #drawNow() {
    cancelAnimationFrame(this.#frame);
    this.#tell();
    const [item, pictures] = [this.#item, this.#pictures];
    if (item === null) return;
    this.#paint(this.#source, pictures && pictures.source, true);
    for (const [place, { canvas }] of this.#tiles.slice(0, item.candidates.length).entries()) {
      this.#paint(canvas, pictures && this.#shown(pictures, place), false);
    }
  }

  /**
   * @param {Pictures} pictures
   * @param {number} place
   */
  #shown(pictures, place) {
    if (this.#flipped) return pictures.source;
    const candidate = pictures.candidates[place];
    if (this.#gain === 0) return candidate;
    const make = () => differenceOf(candidate, pictures.source, this.#gain);
    return this.#once(`difference ${place} ${this.#gain}`, make);
  }

  /**
   * @param {HTMLCanvasElement} canvas
   * @param {CanvasImageSource | null} picture
   * @param {boolean} tinted whether the mask is filled, not only drawn around
   */
  #paint(canvas, picture, tinted) {
    const context = sized(canvas);
    if (context === null || picture === null || this.#item === null || this.#pictures === null) return;
    const { width, height } = this.#item;
    this.#project(context);
    context.drawImage(picture, 0, 0, width, height);
    if (!pressed(this.buttons.mask)) return;
    if (tinted) {
      context.globalAlpha = 0.4;
      context.drawImage(this.#pictures.mask.light, 0, 0, width, height);
      context.globalAlpha = 1;
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(this.#outline(canvas), 0, 0);
  }

  /**
   * The line around the mask as it lies on a canvas of this size: as thick however far the picture is enlarged.
   * @param {HTMLCanvasElement} canvas
   */
  #outline(canvas) {
    return this.#once(`outline ${canvas.width} ${canvas.height}`, () => {
      const [layer, context] = blank(canvas.width, canvas.height);
      const { mask } = /** @type {Pictures} */ (this.#pictures);
      const { width, height } = /** @type {Assignment} */ (this.#item);
      for (const [shape, radius] of /** @type {const} */ ([[mask.dark, 3], [mask.light, 2]])) {
        for (const [x, y] of around(Math.round(radius * devicePixelRatio))) {
          this.#project(context, x, y);
          context.drawImage(shape, 0, 0, width, height);
        }
      }
      context.globalCompositeOperation = "destination-out";
      this.#project(context);
      context.drawImage(mask.light, 0, 0, width, height);
      return layer;
    });
  }

  /**
   * Let a context draw in the pixels of the picture.
   * @param {CanvasRenderingContext2D} context
   * @param {number} [dx] in pixels of the canvas
   * @param {number} [dy]
   */
  #project(context, dx = 0, dy = 0) {
    const { width, height } = /** @type {Assignment} */ (this.#item);
    const { canvas } = context;
    const scale = Math.min(canvas.width / width, canvas.height / height) * this.view.scale;
    const left = canvas.width / 2 - this.view.x * width * scale + dx;
    const top = canvas.height / 2 - this.view.y * height * scale + dy;
    context.setTransform(scale, 0, 0, scale, left, top);
    context.imageSmoothingEnabled = scale < 2; // from there on the pixels themselves are looked at
    context.imageSmoothingQuality = "high";
  }

  /** @param {HTMLCanvasElement} canvas */
  #fitted(canvas) {
    const { width, height } = this.#item ?? { width: 1, height: 1 };
    const scale = Math.min(canvas.clientWidth / width, canvas.clientHeight / height);
    return { width: width * scale, height: height * scale };
  }

  /**
   * @param {string} key
   * @param {() => HTMLCanvasElement} make
   */
  #once(key, make) {
    const known = this.#made.get(key) ?? make();
    this.#made.set(key, known);
    return known;
  }

  /** Say on the page what is shown in place of the candidates, and which buttons are down. */
  #tell() {
    const { crop, difference, flip } = this.buttons;
    pressed(crop, this.#cropped);
    pressed(difference, this.#gain > 0);
    pressed(flip, this.#flipped);
    const times = this.#gain > 1 ? ` × ${this.#gain}` : "";
    const showing = this.#flipped ? "Showing the source" : this.#gain > 0 ? `Difference${times}` : "";
    const zoom = this.view.scale > 1.01 ? `${this.view.scale.toFixed(1)}×` : "";
    this.#caption.textContent = [showing, zoom].filter(Boolean).join(" · ");
    document.body.classList.toggle("zoomed", this.view.scale > 1.01);
  }
}

/**
 * The number of columns that makes the pictures largest.
 * @param {Assignment} item
 * @param {number} width
 * @param {number} height
 */
function columnsFor({ width: across, height: down, candidates }, width, height) {
  const count = candidates.length;
  /** @param {number} columns */
  const scale = (columns) => {
    const rows = Math.ceil(count / columns);
    const tileWidth = (width - GAP_PIXELS * (columns - 1)) / columns;
    const tileHeight = (height - GAP_PIXELS * (rows - 1)) / rows - BAR_PIXELS;
    return Math.min(tileWidth / across, tileHeight / down);
  };
  const choices = Array.from({ length: count }, (_, index) => index + 1);
  return choices.reduce((best, columns) => (scale(columns) > scale(best) ? columns : best));
}

/** @param {Assignment} item */
function shapeOf({ width, height }) {
  return width > 1.2 * height ? "wide" : height > 1.2 * width ? "tall" : "square";
}

/**
 * The eight neighbours at a distance.
 * @param {number} distance
 */
function around(distance) {
  const steps = [-distance, 0, distance];
  return steps.flatMap((x) => steps.map((y) => [x, y])).filter(([x, y]) => x !== 0 || y !== 0);
}

/**
 * The empty canvas in the device's own pixels; null while it is not laid out.
 * @param {HTMLCanvasElement} canvas
 */
function sized(canvas) {
  const width = Math.round(canvas.clientWidth * devicePixelRatio);
  const height = Math.round(canvas.clientHeight * devicePixelRatio);
  if (width === 0 || height === 0) return null;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  context?.setTransform(1, 0, 0, 1, 0, 0);
  context?.clearRect(0, 0, width, height);
  return context;
}
