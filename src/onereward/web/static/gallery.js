import { isPassing, Refused, Unreachable } from "./api.js";

const PATIENCE_MS = 30_000;
const WAITS_MS = [500, 1000, 2000, 4000, 8000];

/**
 * What belongs to items, fetched and decoded before they are shown.
 * @template {{id: string}} Item
 * @template Pictures
 */
export class Gallery {
  /** @type {Map<string, Promise<Pictures>>} */
  #items = new Map();

  /**
   * @param {(item: Item) => Promise<Pictures>} fetch
   * @param {(pictures: Pictures) => void} [forget] gives back what they take
   */
  constructor(fetch, forget = () => {}) {
    this.fetch = fetch;
    this.forget = forget;
  }

  /**
   * The pictures of an item; asked for twice, they are fetched once, unless that failed.
   * @param {Item} item
   * @returns {Promise<Pictures>}
   */
  of(item) {
    const known = this.#items.get(item.id);
    if (known !== undefined) return known;
    const coming = this.fetch(item);
    coming.catch(() => this.#items.delete(item.id));
    this.#items.set(item.id, coming);
    return coming;
  }

  /**
   * Forget all items but these.
   * @param {Item[]} items
   */
  keep(items) {
    for (const [id, coming] of this.#items) {
      if (items.some((item) => item.id === id)) continue;
      this.#items.delete(id);
      coming.then(this.forget, () => {});
    }
  }
}

/**
 * A picture's file, asked for again and again while the server cannot be reached or is busy.
 *
 * Throws Unreachable or Refused if that lasts. Not asked again for: one that the server does not have or where nobody is
 * signed in any more (Refused), and one that does not come though the server can be reached (a TimeoutError).
 * @param {string} id
 * @returns {Promise<Blob>}
 */
export async function fileOf(id) {
  for (const wait of WAITS_MS) {
    try {
      return await fetched(id);
    } catch (error) {
      if (!isPassing(error) || hasEnded(error)) throw error;
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
  return fetched(id);
}

/** @param {string} id */
async function fetched(id) {
  let response;
  try {
    response = await fetch(`/api/images/${encodeURIComponent(id)}`, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (response.ok) return await response.blob();
  } catch (error) {
    if (error instanceof DOMException && error.name === "TimeoutError") throw error;
    throw new Unreachable("The server cannot be reached.");
  }
  throw new Refused(response.status, `A picture was answered with ${response.status}.`, 0);
}

/**
 * Whether nobody is signed in any more: only opening the link again helps.
 * @param {unknown} error
 * @returns {error is Refused}
 */
export function hasEnded(error) {
  return error instanceof Refused && error.ended;
}
