import { reopen, submit } from "./calls.js";

/** @import { Accepted, Answer } from "./types.js" */
/** @import { Kept } from "./keeping.js" */
/** @import { Outbox, Store } from "./outbox.js" */

/**
 * An answer on its way, with what is needed to send it after a reload.
 * @typedef {object} Waiting
 * @property {string} key the order in which they were given
 * @property {boolean} correction whether the item must be taken back first
 * @property {Answer} answer
 */

/** @typedef {Outbox<Waiting, Accepted>} Answers */

let last = 0;

/**
 * An answer that waits behind those before it.
 * @param {Answer} answer
 * @param {boolean} correction
 * @returns {Waiting}
 */
export function waiting(answer, correction) {
  last = Math.max(Date.now(), last + 1);
  return { key: String(last).padStart(16, "0"), correction, answer };
}

/**
 * @param {Kept} kept
 * @returns {Store<Waiting>}
 */
export function storeIn(kept) {
  return {
    get lasting() {
      return kept.lasting;
    },
    all: () => kept.all("outbox"),
    put: (one) => kept.put("outbox", one.key, one),
    remove: (one) => kept.remove("outbox", one.key),
  };
}

/**
 * @param {Waiting} one
 * @returns {Promise<Accepted>}
 */
export async function send({ correction, answer }) {
  if (correction) await reopen(answer.assignment);
  return submit(answer);
}
