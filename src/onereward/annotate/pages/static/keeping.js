/**
 * What this device keeps for one person across reloads and network cuts: a small database in the browser.
 *
 * Where the browser keeps nothing (a private window of some) or the disk fails, nothing is thrown: the page alone holds
 * what it wants kept, and `lasting` is false.
 */
export class Kept {
  /** @param {IDBDatabase | null} database */
  constructor(database) {
    this.database = database;
    /** Whether all of it outlives the page. */
    this.lasting = database !== null;
    if (database !== null) database.onclose = () => (this.lasting = false);
  }

  /**
   * @param {string} person whose it is: another person on the same device has their own
   * @returns {Promise<Kept>}
   */
  static async of(person) {
    try {
      const opening = indexedDB.open(`onereward-annotate-${person}`, 1);
      opening.onupgradeneeded = () => STORES.forEach((name) => opening.result.createObjectStore(name));
      return new Kept(await done(opening));
    } catch {
      return new Kept(null);
    }
  }

  /**
   * All values of a store, in the order of their keys.
   * @template T
   * @param {Store} store
   * @returns {Promise<T[]>}
   */
  async all(store) {
    return (await this.#tried((database) => done(database.transaction(store).objectStore(store).getAll()))) ?? [];
  }

  /**
   * @template T
   * @param {Store} store
   * @param {string} key
   * @returns {Promise<T | undefined>}
   */
  async get(store, key) {
    return this.#tried((database) => done(database.transaction(store).objectStore(store).get(key)));
  }

  /**
   * Returns when the value is on the disk, or cannot be.
   * @param {Store} store
   * @param {string} key
   * @param {unknown} value
   */
  async put(store, key, value) {
    await this.#tried((database) => soon(written(database, store, (values) => values.put(value, key))));
  }

  /**
   * @param {Store} store
   * @param {string} key
   */
  async remove(store, key) {
    await this.#tried((database) => soon(written(database, store, (values) => values.delete(key))));
  }

  /**
   * What an action on the database gives; undefined where there is none or it fails.
   * @template T
   * @param {(database: IDBDatabase) => Promise<T>} action
   * @returns {Promise<T | undefined>}
   */
  async #tried(action) {
    if (this.database === null) return undefined;
    try {
      return await action(this.database);
    } catch {
      this.lasting = false;
      return undefined;
    }
  }
}

/**
 * One person's half-made choices, by item. They are kept in the same moment, since a page that is reloaded at once takes
 * with it what it was still writing to a database; where the browser keeps nothing they last as long as the page.
 */
export class Drafts {
  #prefix = "";
  /** @type {Map<string, Draft>} */
  #drafts = new Map();

  /** @param {string} person whose they are */
  constructor(person) {
    this.#prefix = `onereward-annotate-${person}-draft-`;
    try {
      const own = Object.keys(localStorage).filter((key) => key.startsWith(this.#prefix));
      for (const key of own) this.#hold(JSON.parse(localStorage.getItem(key) ?? ""));
    } catch {
      // What cannot be read is not there.
    }
  }

  /** The items that were begun. */
  get items() {
    return [...this.#drafts.values()].map(({ item }) => item);
  }

  /** @param {string} item the id */
  of(item) {
    return this.#drafts.get(item);
  }

  /** @param {Draft} draft */
  put(draft) {
    this.#hold(draft);
    try {
      localStorage.setItem(this.#prefix + draft.item.id, JSON.stringify(draft));
    } catch {
      // There is no room, or nothing is kept here.
    }
  }

  /** @param {string} item the id */
  remove(item) {
    this.#drafts.delete(item);
    try {
      localStorage.removeItem(this.#prefix + item);
    } catch {
      // Nothing is kept here.
    }
  }

  /** @param {Draft} draft */
  #hold(draft) {
    this.#drafts.set(draft.item.id, draft);
  }
}

/** @typedef {import("./types.js").Draft} Draft */

/** @typedef {"outbox" | "past"} Store answers not yet sent; items answered last */

const PATIENCE_MS = 3000;
/** @type {Store[]} */
const STORES = ["outbox", "past"];

/**
 * Returns when it is written, or throws when that takes so long that the page had better go on: some browsers never say.
 * What is read is waited for: an answer that is not found would be sent after a newer one.
 * @param {Promise<void>} coming
 * @returns {Promise<void>}
 */
function soon(coming) {
  const late = new Promise((_, reject) => setTimeout(reject, PATIENCE_MS, new Error("the browser's database hangs")));
  return Promise.race([coming, /** @type {Promise<never>} */ (late)]);
}

/**
 * @template T
 * @param {IDBRequest<T>} request
 * @returns {Promise<T>}
 */
function done(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * Returns when a change is on the disk.
 * @param {IDBDatabase} database
 * @param {Store} store
 * @param {(values: IDBObjectStore) => unknown} change
 * @returns {Promise<void>}
 */
function written(database, store, change) {
  return new Promise((resolve, reject) => {
    const writing = database.transaction(store, "readwrite", { durability: "strict" });
    writing.oncomplete = () => resolve();
    writing.onabort = () => reject(writing.error);
    change(writing.objectStore(store));
  });
}
