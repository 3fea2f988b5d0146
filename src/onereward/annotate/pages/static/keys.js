/**
 * Everything that a key does, in the order in which help shows it.
 * @type {readonly {name: string, title: string, key: string}[]}
 */
export const ACTIONS = [
  ...Array.from({ length: 8 }, (_, place) => ({
    name: `choose_${place + 1}`,
    title: `Candidate ${place + 1}: first the best, then the worst`,
    key: String(place + 1),
  })),
  { name: "skip", title: "Skip this question, then the number of a reason", key: "s" },
  { name: "next", title: "Next question", key: "ArrowDown" },
  { name: "previous", title: "Previous question", key: "ArrowUp" },
  { name: "submit", title: "Submit the answers", key: "Enter" },
  { name: "undo", title: "Undo, also after submitting", key: "u" },
  { name: "flip", title: "Hold to see the source in place of all candidates", key: "Space" },
  { name: "difference", title: "Difference to the source, then 8 times as strong", key: "d" },
  { name: "mask", title: "Show or hide the mask", key: "m" },
  { name: "crop", title: "Crop to the mask", key: "c" },
  { name: "zoom", title: "Zoom: 2 times, 4 times, all", key: "z" },
  { name: "zoom_in", title: "Zoom in", key: "+" },
  { name: "zoom_out", title: "Zoom out", key: "-" },
  { name: "left", title: "Move left", key: "Shift+ArrowLeft" },
  { name: "right", title: "Move right", key: "Shift+ArrowRight" },
  { name: "up", title: "Move up", key: "Shift+ArrowUp" },
  { name: "down", title: "Move down", key: "Shift+ArrowDown" },
  { name: "help", title: "This help", key: "?" },
];

/** Keys that also work where nobody gave them to something else. */
const ALSO = new Map([
  ["ArrowRight", "next"],
  ["ArrowLeft", "previous"],
]);

/** How keys are printed on the page. */
const PRINTED = new Map([
  ["ArrowUp", "↑"],
  ["ArrowDown", "↓"],
  ["ArrowLeft", "←"],
  ["ArrowRight", "→"],
]);

/** Which key does what for one person: their own choices over the defaults; "" turns an action's key off. */
export class Keys {
  /** @type {Map<string, string>} */
  #keys = new Map(ACTIONS.map(({ name, key }) => [name, key]));

  /** @param {Record<string, string>} own */
  constructor(own) {
    for (const [name, key] of Object.entries(own)) if (this.#keys.has(name)) this.#keys.set(name, key);
  }

  /** What differs from the defaults. */
  get own() {
    const changed = ACTIONS.filter(({ name, key }) => this.of(name) !== key);
    return Object.fromEntries(changed.map(({ name }) => [name, this.of(name)]));
  }

  /** @param {string} action */
  of(action) {
    return this.#keys.get(action) ?? "";
  }

  /**
   * The action of a key; undefined if it has none.
   * @param {string} key
   */
  action(key) {
    for (const [name, own] of this.#keys) if (own === key) return name;
    return ALSO.get(key);
  }

  /**
   * These keys with another one for an action; the action that had it gets this one's old key.
   * @param {string} action
   * @param {string} key
   */
  with(action, key) {
    const changed = { ...this.own, [action]: key };
    const loser = key === "" ? undefined : ACTIONS.find(({ name }) => name !== action && this.of(name) === key);
    return new Keys(loser ? { ...changed, [loser.name]: this.of(action) } : changed);
  }
}

/**
 * The name of the key that was pressed, with what was held down; null for a modifier alone.
 * @param {KeyboardEvent} event
 */
export function keyOf(event) {
  if (["Shift", "Control", "Alt", "Meta", "AltGraph", "Dead", "Process"].includes(event.key)) return null;
  const key = event.key === " " ? "Space" : event.key;
  const held = [
    event.ctrlKey && "Ctrl",
    event.altKey && !event.getModifierState("AltGraph") && "Alt",
    event.metaKey && "Meta",
    event.shiftKey && key.length > 1 && "Shift", // of a printed character it is part already
  ];
  return [...held.filter(Boolean), key.length === 1 && !event.shiftKey ? key.toLowerCase() : key].join("+");
}

/**
 * A key as it is printed.
 * @param {string} key
 */
export function printed(key) {
  if (key === "") return "–";
  const parts = key.length === 1 ? [key] : key.split(/\+(?=.)/);
  return parts.map((one) => PRINTED.get(one) ?? one).join(" ");
}
