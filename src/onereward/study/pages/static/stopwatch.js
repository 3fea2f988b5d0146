/** Counts the seconds during which the page is seen. */
export class Stopwatch {
  #counted = 0;
  /** @type {number | null} when it was last started, in milliseconds */
  #since = null;
  #running = false;

  constructor() {
    document.addEventListener("visibilitychange", () => this.#count(this.#running && !document.hidden));
  }

  /** Begin at zero. */
  restart() {
    this.#running = true;
    this.#since = null;
    this.#counted = 0;
    this.#count(!document.hidden);
  }

  get seconds() {
    return this.#counted + (this.#since === null ? 0 : (performance.now() - this.#since) / 1000);
  }

  /** @param {boolean} counting */
  #count(counting) {
    this.#counted = this.seconds;
    this.#since = counting ? performance.now() : null;
  }
}
