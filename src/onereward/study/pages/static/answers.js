/** @import { Answer } from "./types.js" */
/** @import { Store } from "./outbox.js" */

/**
 * Answers that wait, kept in the same moment: a page that is closed at once loses none.
 * @param {string} person whose they are: another person on the same device has their own
 * @returns {Store<Answer>}
 */
export function storeOf(person) {
  const key = `onereward-study-${person}`;
  /** @type {Answer[]} */
  let waiting = read(key);
  /** @param {Answer[]} changed */
  const keep = (changed) => {
    waiting = changed;
    try {
      localStorage.setItem(key, JSON.stringify(waiting));
    } catch {
      // A private window of some browsers keeps nothing: the answers are held by this page alone.
    }
  };
  return {
    all: () => [...waiting],
    put: (answer) => keep([...waiting, answer]),
    remove: ({ uuid }) => keep(waiting.filter((other) => other.uuid !== uuid)),
  };
}

/**
 * @param {string} key
 * @returns {Answer[]}
 */
function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "[]");
  } catch {
    return [];
  }
}
