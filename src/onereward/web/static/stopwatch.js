/** Counts the seconds during which the page is seen. */
export class Stopwatch {
  #counted = 0;
  /** @type {number | null} when it was last started, in milliseconds */
  #since = null;
  #running = false;

  constructor() {
    document.addEventListener("visibilitychange", () => this.#set(this.#running && !document.hidden));
  }

  /**
   * Stop at a count.
   * @param {number} seconds
   */
  reset(seconds) {
    this.#running = false;
    this.#since = null;
    this.#counted = seconds;
  }

  /** Go on counting. */
  start() {
    this.#running = true;
    this.#set(!document.hidden);
  }

  get seconds() {
    return this.#counted + (this.#since === null ? 0 : (performance.now() - this.#since) / 1000);
  }

  /** @param {boolean} counting */
  #set(counting) {
    this.#counted = this.seconds;
    this.#since = counting ? performance.now() : null;
  }
}
