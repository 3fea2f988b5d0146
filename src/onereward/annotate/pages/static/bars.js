/** @import { Interval } from "./types.js" */

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [160, 16];

/**
 * A value on a line that ends at 1, with its interval; the figures stand beside it, so that it says nothing of its own.
 * @param {Interval} interval
 * @param {number} start of the line
 */
export function intervalBar({ value, low, high }, start) {
  /** @param {number} at */
  const x = (at) => Math.min(Math.max((at - start) / (1 - start), 0), 1) * (WIDTH - 8) + 4;
  const marks = [
    shape("line", "axis", { x1: x(start), x2: x(1), y1: HEIGHT / 2, y2: HEIGHT / 2 }),
    shape("line", "axis", { x1: x(0), x2: x(0), y1: 2, y2: HEIGHT - 2 }),
  ];
  if (low !== null && high !== null) {
    marks.push(shape("rect", "interval", { x: x(low), y: HEIGHT / 2 - 3, width: x(high) - x(low), height: 6, rx: 3 }));
  }
  marks.push(shape("circle", "value", { cx: x(value), cy: HEIGHT / 2, r: 4 }));
  const bar = shape("svg", "interval-bar", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT });
  bar.setAttribute("aria-hidden", "true");
  bar.append(...marks);
  return bar;
}

/**
 * @param {string} kind
 * @param {string} name its class
 * @param {Record<string, string | number>} attributes
 */
function shape(kind, name, attributes) {
  const made = document.createElementNS(SVG, kind);
  made.setAttribute("class", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}
