const MOST = 16;

/**
 * The part of the picture that is seen, the same in all of them: how much larger than a picture that just fits,
 * and where its middle lies (0 to 1 across and down).
 */
export class View {
  scale = 1;
  x = 0.5;
  y = 0.5;

  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
  }

  /** Show the whole picture. */
  reset() {
    this.#set(1, 0.5, 0.5);
  }

  /** Go on to 2 times, 4 times, and back to the whole. */
  cycle() {
    this.zoomTo(this.scale < 1.99 ? 2 : this.scale < 3.99 ? 4 : 1);
  }

  /**
   * Enlarge around a point, which stays where it is.
   * @param {number} scale
   * @param {number} [x]
   * @param {number} [y]
   */
  zoomTo(scale, x = this.x, y = this.y) {
    const bounded = Math.min(Math.max(scale, 1), MOST);
    const shrink = this.scale / bounded;
    this.#set(bounded, x + (this.x - x) * shrink, y + (this.y - y) * shrink);
  }

  /**
   * Move the middle by a share of the picture.
   * @param {number} x
   * @param {number} y
   */
  move(x, y) {
    this.#set(this.scale, this.x + x, this.y + y);
  }

  /**
   * Show a part with a margin around it.
   * @param {Box} box
   */
  show(box) {
    const scale = 0.85 * Math.min(1 / box.width, 1 / box.height);
    this.#set(Math.min(Math.max(scale, 1), MOST), box.x + box.width / 2, box.y + box.height / 2);
  }

  /**
   * @param {number} scale
   * @param {number} x
   * @param {number} y
   */
  #set(scale, x, y) {
    const half = 0.5 / scale;
    this.scale = scale;
    this.x = Math.min(Math.max(x, half), 1 - half);
    this.y = Math.min(Math.max(y, half), 1 - half);
    this.changed();
  }
}

/** @typedef {{x: number, y: number, width: number, height: number}} Box in shares of the picture */

const TAP_PIXELS = 8;

/**
 * Zoom and move by wheel, drag and pinch on an element; a tap that does neither is told.
 * @param {HTMLElement} element
 * @param {View} view
 * @param {() => {width: number, height: number}} fitted the size of the whole picture on it, in CSS pixels
 * @param {(x: number, y: number) => void} tapped where, in shares of the picture
 */
export function gestures(element, view, fitted, tapped) {
  /** @type {Map<number, {x: number, y: number}>} */
  const fingers = new Map();
  let travelled = 0;

  /** @param {{clientX: number, clientY: number}} at */
  const pointAt = (at) => {
    const box = element.getBoundingClientRect();
    const whole = fitted();
    return {
      x: view.x + (at.clientX - box.left - box.width / 2) / (whole.width * view.scale),
      y: view.y + (at.clientY - box.top - box.height / 2) / (whole.height * view.scale),
    };
  };

  element.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const point = pointAt(event);
      view.zoomTo(view.scale * 1.002 ** -event.deltaY, point.x, point.y);
    },
    { passive: false },
  );
  element.addEventListener(
    "touchstart",
    (event) => {
      if (event.touches.length > 1) event.preventDefault(); // or the page scrolls under a pinch
    },
    { passive: false },
  );
  element.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    element.setPointerCapture(event.pointerId);
    if (fingers.size === 0) travelled = 0;
    else travelled = Infinity;
    fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  element.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (before === undefined) return;
    const whole = fitted();
    const [dx, dy] = [event.clientX - before.x, event.clientY - before.y];
    const spread = spreadOf(fingers);
    before.x = event.clientX;
    before.y = event.clientY;
    travelled += Math.hypot(dx, dy);
    if (spread > 0) {
      const point = pointAt(middleOf(fingers));
      view.zoomTo((view.scale * spreadOf(fingers)) / spread, point.x, point.y);
    }
    const share = view.scale * fingers.size; // of two fingers that move together each moves it half the way
    if (travelled > TAP_PIXELS) view.move(-dx / (whole.width * share), -dy / (whole.height * share));
  });
  element.addEventListener("pointerup", (event) => {
    if (!fingers.delete(event.pointerId) || travelled > TAP_PIXELS) return;
    const { x, y } = pointAt(event);
    tapped(x, y);
  });
  element.addEventListener("pointercancel", (event) => fingers.delete(event.pointerId));
}

/** @param {Map<number, {x: number, y: number}>} fingers */
function spreadOf(fingers) {
  const [first, second] = [...fingers.values()];
  return second === undefined ? 0 : Math.hypot(first.x - second.x, first.y - second.y);
}

/** @param {Map<number, {x: number, y: number}>} fingers */
function middleOf(fingers) {
  const [first, second] = [...fingers.values()];
  return { clientX: (first.x + second.x) / 2, clientY: (first.y + second.y) / 2 };
}
