import { fileOf } from "./gallery.js";

/** @import { Assignment } from "./types.js" */
/** @import { Box } from "./view.js" */

/**
 * The pictures of an item, decoded.
 * @typedef {object} Pictures
 * @property {ImageBitmap} source
 * @property {Mask} mask
 * @property {ImageBitmap[]} candidates
 */

/**
 * What was repainted: as shapes to draw, and the box around it.
 * @typedef {object} Mask
 * @property {HTMLCanvasElement} light opaque in its colour where the mask is white
 * @property {HTMLCanvasElement} dark the same in black
 * @property {Box | null} box null where nothing is white
 */

const MASK_COLOUR = "#ff2fd0";

/**
 * Fetch and decode them.
 * @param {Assignment} item
 * @returns {Promise<Pictures>}
 */
export async function picturesOf(item) {
  const ids = [item.source, item.mask, ...item.candidates];
  const [source, mask, ...candidates] = await Promise.all(ids.map(async (id) => createImageBitmap(await fileOf(id))));
  return { source, mask: maskOf(mask), candidates };
}

/**
 * |candidate - source| times `gain`.
 * @param {ImageBitmap} candidate
 * @param {ImageBitmap} source
 * @param {number} gain a power of two
 */
export function differenceOf(candidate, source, gain) {
  const [canvas, context] = blank(candidate.width, candidate.height);
  context.drawImage(candidate, 0, 0);
  context.globalCompositeOperation = "difference";
  context.drawImage(source, 0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "lighter";
  for (let reached = 1; reached < gain; reached *= 2) context.drawImage(canvas, 0, 0);
  return canvas;
}

/**
 * @param {ImageBitmap} picture white where it was repainted
 * @returns {Mask}
 */
function maskOf(picture) {
  const [light, context] = blank(picture.width, picture.height);
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, light.width, light.height);
  const box = whitened(pixels);
  context.putImageData(pixels, 0, 0);
  const [dark, darkContext] = blank(light.width, light.height);
  darkContext.drawImage(light, 0, 0);
  for (const [one, colour] of /** @type {const} */ ([[context, MASK_COLOUR], [darkContext, "#000"]])) {
    one.globalCompositeOperation = "source-in";
    one.fillStyle = colour;
    one.fillRect(0, 0, light.width, light.height);
  }
  return { light, dark, box };
}

/**
 * Make the brightness of each pixel its opacity; returns the box around those that are more white than black.
 * @param {ImageData} pixels
 * @returns {Box | null}
 */
function whitened({ data, width, height }) {
  let [left, right, top, bottom] = [width, -1, height, -1];
  for (let index = 0; index < data.length; index += 4) {
    data[index + 3] = data[index];
    if (data[index] < 128) continue;
    const x = (index / 4) % width;
    const y = Math.floor(index / 4 / width);
    if (x < left) left = x;
    if (x > right) right = x;
    if (y < top) top = y;
    if (y > bottom) bottom = y;
  }
  if (right < 0) return null;
  return { x: left / width, y: top / height, width: (right - left + 1) / width, height: (bottom - top + 1) / height };
}

/**
 * @param {number} width
 * @param {number} height
 * @returns {[HTMLCanvasElement, CanvasRenderingContext2D]}
 */
export function blank(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", { willReadFrequently: false });
  if (context === null) throw new Error("this browser draws no canvas");
  return [canvas, context];
}
