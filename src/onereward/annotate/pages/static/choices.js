/** @import { Reason, Vote } from "./types.js" */

/**
 * The votes on one item while they are made: one entry a dimension, the current one, and what was before.
 *
 * Each change makes new votes, so that `undo` only takes the old ones back.
 */
export class Choices {
  current = 0;
  /** @type {{votes: Vote[], current: number}[]} */
  #past = [];

  /**
   * @param {string[]} dimensions
   * @param {number} count of candidates
   * @param {Vote[] | null} votes made before
   */
  constructor(dimensions, count, votes) {
    this.count = count;
    /** @type {Vote[]} */
    this.votes = dimensions.map((dimension) => {
      const made = votes?.find((vote) => vote.dimension === dimension);
      return made ?? { dimension, best: null, worst: null, reason: null };
    });
    this.go(this.missing());
  }

  get vote() {
    return this.votes[this.current];
  }

  get complete() {
    return this.missing() < 0;
  }

  /** The first dimension from the current one on that has no answer, -1 if all have. */
  missing() {
    const order = this.votes.map((_, step) => (this.current + step) % this.votes.length);
    return order.find((index) => !isAnswered(this.votes[index])) ?? -1;
  }

  /**
   * Take a candidate: the best if there is none yet, the worst if there is, the best anew if both are there.
   * @param {number} place
   */
  choose(place) {
    const { best, worst } = this.vote;
    if (best === null || worst !== null) this.#change(this.#withBest(place));
    else if (best === place) this.#change({ best: null });
    else this.#change({ worst: place });
  }

  /**
   * Make a candidate the best or the worst, or take that back where it is already.
   * @param {number} place
   * @param {"best" | "worst"} mark
   */
  mark(place, mark) {
    const other = mark === "best" ? "worst" : "best";
    if (this.vote[mark] === place) this.#change({ [mark]: null });
    else this.#change({ [mark]: place, [other]: this.#other(place, this.vote[other]) });
  }

  /** @param {Reason} reason */
  skip(reason) {
    this.#change({ best: null, worst: null, reason });
  }

  /**
   * Go to another dimension.
   * @param {number} index
   */
  go(index) {
    this.current = Math.min(Math.max(index, 0), this.votes.length - 1);
  }

  /** Take the last change back; false if there is none. */
  undo() {
    const before = this.#past.pop();
    if (before === undefined) return false;
    ({ votes: this.votes, current: this.current } = before);
    return true;
  }

  /** @param {number} place */
  #withBest(place) {
    return { best: place, worst: this.count === 2 ? 1 - place : null };
  }

  /**
   * What the other mark is on once `place` has one.
   * @param {number} place
   * @param {number | null} present
   */
  #other(place, present) {
    if (this.count === 2) return 1 - place;
    return present === place ? null : present;
  }

  /** @param {Partial<Vote>} change */
  #change(change) {
    this.#past.push({ votes: this.votes, current: this.current });
    this.votes = this.votes.map((vote, index) =>
      index === this.current ? { ...vote, reason: null, ...change } : vote,
    );
    if (isAnswered(this.vote)) this.go(this.complete ? this.current : this.missing());
  }
}

/** @param {Vote} vote */
export function isAnswered(vote) {
  return vote.reason !== null || (vote.best !== null && vote.worst !== null);
}
