import { fileOf } from "./gallery.js";

/** @import { Trial } from "./types.js" */

/**
 * The pictures of a trial, ready to be shown.
 * @typedef {object} Pictures
 * @property {string} source address of a file that this page holds
 * @property {string[]} shown
 * @property {Path2D} outline around what was to change, in pixels of the picture
 */

/**
 * Fetch and decode them.
 * @param {Trial} trial
 * @returns {Promise<Pictures>}
 */
export async function picturesOf(trial) {
  const [source, mask, ...shown] = await Promise.all([trial.source, trial.mask, ...trial.pictures].map(fileOf));
  const outline = outlineOf(await createImageBitmap(mask));
  return { source: URL.createObjectURL(source), shown: shown.map((file) => URL.createObjectURL(file)), outline };
}

/**
 * Give the files back.
 * @param {Pictures} pictures
 */
export function forget({ source, shown }) {
  for (const file of [source, ...shown]) URL.revokeObjectURL(file);
}

/**
 * The border between black and white as closed lines, so that dashes run on around corners.
 * @param {ImageBitmap} mask
 */
function outlineOf(mask) {
  const { width, height } = mask;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (context === null) throw new Error("this browser draws no canvas");
  context.drawImage(mask, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  /** @param {number} x @param {number} y */
  const white = (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[4 * (y * width + x)] >= 128;
  const edges = edgesOf(width, height, white);
  const outline = new Path2D();
  for (const start of edges.keys()) {
    let [from, to] = [start, take(edges, start)];
    if (to === undefined) continue;
    outline.moveTo(start % (width + 1), Math.floor(start / (width + 1)));
    while (to !== undefined && to !== start) {
      const next = take(edges, to);
      if (next !== 2 * to - from) outline.lineTo(to % (width + 1), Math.floor(to / (width + 1))); // a corner
      [from, to] = [to, next];
    }
    outline.closePath();
  }
  return outline;
}

/**
 * Edges between white and black pixels, white always on the right: from a corner (numbered row by row) to others.
 * @param {number} width
 * @param {number} height
 * @param {(x: number, y: number) => boolean} white
 */
function edgesOf(width, height, white) {
  /** @type {Map<number, number[]>} */
  const edges = new Map();
  const row = width + 1;
  /** @param {number} from @param {number} to */
  const add = (from, to) => edges.set(from, [...(edges.get(from) ?? []), to]);
  for (let y = 0; y <= height; y++) {
    for (let x = 0; x <= width; x++) {
      const corner = y * row + x;
      const here = white(x, y);
      if (here && !white(x, y - 1)) add(corner, corner + 1);
      if (!here && white(x, y - 1)) add(corner + 1, corner);
      if (here && !white(x - 1, y)) add(corner + row, corner);
      if (!here && white(x - 1, y)) add(corner, corner + row);
    }
  }
  return edges;
}

/**
 * Take an edge that begins at a corner.
 * @param {Map<number, number[]>} edges
 * @param {number} from
 */
function take(edges, from) {
  return edges.get(from)?.pop();
}
