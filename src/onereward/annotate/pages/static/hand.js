import { Refused, Unreachable, uuid } from "./api.js";
import { claim, heartbeat, held } from "./calls.js";

/** @import { Assignment, Held, Nothing } from "./types.js" */
/** @import { Answers } from "./answers.js" */

/**
 * @typedef {object} Listener
 * @property {() => void} changed what is held, or why there is nothing
 * @property {(item: Assignment) => void} lost somebody else has it now
 * @property {(error: Refused) => void} ended nobody is signed in any more
 */

const HELD = 2; // the item at work and the next
const AGAIN_MS = { busy: 4000, paused: 10_000, finished: 30_000, cut: 3000 };

/** The items that this person holds: the first is at work, the next one is claimed ahead; leases are kept alive. */
export class Hand {
  /** @type {Assignment[]} */
  items = [];
  /** @type {Nothing | "cut" | null} why nothing more comes; null where something may */
  nothing = null;
  #request = "";
  #claiming = false;
  #timer = 0;
  #beat = 0;
  #lease = Infinity;
  #lastInput = Date.now();

  /**
   * @param {Answers} outbox
   * @param {Listener} listener
   */
  constructor(outbox, listener) {
    this.outbox = outbox;
    this.listener = listener;
    addEventListener("online", () => this.#wake());
    document.addEventListener("visibilitychange", () => this.#wake());
    for (const kind of ["keydown", "pointerdown"]) addEventListener(kind, () => (this.#lastInput = Date.now()));
  }

  /**
   * What the server says is held, without what was answered on this device.
   * @returns {Promise<Held>}
   */
  async start() {
    const found = await held();
    this.#take(found.open);
    return found;
  }

  /**
   * Put an item in front, to be corrected.
   * @param {Assignment} item
   */
  putFirst(item) {
    this.items = [item, ...this.items.filter(({ id }) => id !== item.id)];
  }

  /**
   * Let go of an item.
   * @param {Assignment} item
   */
  drop(item) {
    this.items = this.items.filter(({ id }) => id !== item.id);
  }

  /** Claim until enough is held. */
  async fill() {
    clearTimeout(this.#timer);
    if (this.#claiming) return;
    this.#claiming = true;
    try {
      while (this.#count() < HELD && (await this.#claim()));
    } catch (error) {
      await this.#failed(error);
    } finally {
      this.#claiming = false;
    }
    this.listener.changed();
  }

  /** Items that the server counts as held: those here that are no corrections, and those with answers on their way. */
  #count() {
    const onTheWay = this.outbox.waiting.filter(({ correction }) => !correction).length;
    return this.items.filter(({ votes }) => votes === null).length + onTheWay;
  }

  async #claim() {
    this.#request ||= uuid();
    const found = await claim(this.#request, this.items.length > 0);
    this.#request = "";
    if ("none" in found) {
      this.nothing = found.none;
      this.#later(AGAIN_MS[found.none]);
      return false;
    }
    this.nothing = null;
    this.#take([found]);
    this.listener.changed();
    return true;
  }

  /** @param {unknown} error */
  async #failed(error) {
    if (error instanceof Refused && error.ended) return this.listener.ended(error);
    if (error instanceof Refused && !error.passing) {
      this.#request = ""; // its item is lost; or another page of this person holds what we do not know of
      await this.start().catch(() => {});
    } else if (error instanceof Unreachable || error instanceof Refused) {
      this.nothing = "cut";
    } else {
      throw error;
    }
    this.#later(Math.max(AGAIN_MS.cut, error instanceof Refused ? error.wait * 1000 : 0));
  }

  /** @param {Assignment[]} found */
  #take(found) {
    const known = new Set(this.items.map(({ id }) => id));
    const fresh = found.filter(({ id }) => !known.has(id) && !isAnswered(this.outbox, id));
    this.items = [...this.items, ...fresh];
    if (fresh.length > 0) this.#keepAlive(Math.min(...fresh.map(({ lease_seconds }) => lease_seconds)));
  }

  /** @param {number} milliseconds */
  #later(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.fill(), milliseconds);
  }

  /** @param {number} lease in seconds */
  #keepAlive(lease) {
    if (lease >= this.#lease) return; // the present beat is quick enough
    this.#lease = lease;
    clearInterval(this.#beat);
    this.#beat = setInterval(() => {
      const left = document.hidden && Date.now() - this.#lastInput > lease * 1000; // nobody is here: let others have it
      if (!left) void this.#beatAll();
    }, (lease * 1000) / 3);
  }

  #wake() {
    if (document.hidden) return;
    void this.#beatAll();
    void this.fill();
  }

  async #beatAll() {
    for (const item of this.items.filter(({ votes }) => votes === null)) {
      try {
        await heartbeat(item.id);
      } catch (error) {
        if (error instanceof Refused && error.ended) return this.listener.ended(error);
        if (!(error instanceof Refused) || error.passing || !this.items.includes(item)) continue;
        this.drop(item);
        this.listener.lost(item);
      }
    }
  }
}

/**
 * Whether the answer to an item waits to be sent.
 * @param {Answers} outbox
 * @param {string} item
 */
function isAnswered({ waiting }, item) {
  return waiting.some(({ answer }) => answer.assignment === item);
}

/**
 * Whether the correction of an item waits to be sent.
 * @param {Answers} outbox
 * @param {string} item
 */
export function isCorrected({ waiting }, item) {
  return waiting.some(({ answer, correction }) => correction && answer.assignment === item);
}
