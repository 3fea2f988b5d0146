import { call } from "./api.js";

/** @import { Accepted, Answer, Assignment, Held, Nothing, Summary } from "./types.js" */

/**
 * What this person holds.
 * @returns {Promise<Held>}
 */
export async function held() {
  return /** @type {Held} */ (await call("GET", "/api/assignments"));
}

/**
 * The next item; asked again with the same request it is the same.
 * @param {string} request
 * @param {boolean} ahead whether it is to be shown later
 * @returns {Promise<Assignment | {none: Nothing}>}
 */
export async function claim(request, ahead) {
  return /** @type {Assignment | {none: Nothing}} */ (await call("POST", "/api/assignments", { request, ahead }));
}

/**
 * Keep an item for longer.
 * @param {string} assignment
 */
export async function heartbeat(assignment) {
  await call("POST", `${pathOf(assignment)}/heartbeat`);
}

/**
 * Take back an item that was answered, to correct it.
 * @param {string} assignment
 * @returns {Promise<Assignment>}
 */
export async function reopen(assignment) {
  return /** @type {Assignment} */ (await call("POST", `${pathOf(assignment)}/reopen`));
}

/**
 * @param {Answer} answer
 * @returns {Promise<Accepted>}
 */
export async function submit(answer) {
  return /** @type {Accepted} */ (await call("POST", "/api/answers", answer));
}

/**
 * @returns {Promise<Summary>}
 */
export async function summary() {
  return /** @type {Summary} */ (await call("GET", "/api/admin/summary"));
}

/** @param {string} assignment */
function pathOf(assignment) {
  return `/api/assignments/${encodeURIComponent(assignment)}`;
}
