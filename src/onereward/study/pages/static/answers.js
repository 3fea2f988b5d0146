/** @import { Answer } from "./types.js" */
/** @import { Store } from "./outbox.js" */

/**
 * Answers that wait, kept in the same moment: a page that is closed at once loses none. Each has an entry of its own,
 * so that pages open at the same time do not write over each other's. Where the browser keeps nothing (a private window
 * of some), the page alone holds them.
 * @param {string} person whose they are: another person on the same device has their own
 * @returns {Store<Answer>}
 */
export function storeOf(person) {
  const prefix = `onereward-study-${person}-`;
  const keys = () => Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  let last = 0;
  let lasting = true;
  return {
    get lasting() {
      return lasting;
    },
    all: () => tried(() => keys().sort().map((key) => JSON.parse(localStorage.getItem(key) ?? ""))) ?? [],
    put: (answer) => {
      last = Math.max(Date.now(), last + 1); // keys are in the order in which answers were given
      const key = `${prefix}${String(last).padStart(16, "0")}-${answer.uuid}`;
      lasting &&= tried(() => (localStorage.setItem(key, JSON.stringify(answer)), true)) ?? false;
    },
    remove: ({ uuid }) => {
      tried(() => keys().filter((key) => key.endsWith(uuid)).forEach((key) => localStorage.removeItem(key)));
    },
  };
}

/**
 * @template T
 * @param {() => T} action
 * @returns {T | undefined} undefined where nothing is kept here, or there is no room
 */
function tried(action) {
  try {
    return action();
  } catch {
    return undefined;
  }
}
