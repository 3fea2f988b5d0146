import { call } from "./api.js";

/** @import { Accepted, Answer, Place } from "./types.js" */

/**
 * Where this person is in the study.
 * @returns {Promise<Place>}
 */
export async function place() {
  return /** @type {Place} */ (await call("GET", "/api/place"));
}

/**
 * @param {Answer} answer
 * @returns {Promise<Accepted>}
 */
export async function submit(answer) {
  return /** @type {Accepted} */ (await call("POST", "/api/answers", answer));
}
