const PATIENCE_MS = 20_000;

/** The server answered, and said no. */
export class Refused extends Error {
  /**
   * @param {number} status
   * @param {string} detail what the server says, as a sentence
   * @param {number} wait seconds after which it may be tried again
   */
  constructor(status, detail, wait) {
    super(detail);
    this.status = status;
    this.wait = wait;
  }

  /** Whether nobody is signed in (any more), or somebody else is. */
  get ended() {
    return this.status === 401 || this.status === 403;
  }

  /** Whether the same request may succeed later. */
  get passing() {
    return this.ended || this.status >= 500 || [408, 425, 429].includes(this.status);
  }
}

/** No answer came: the network is cut or the server is down. */
export class Unreachable extends Error {}

/**
 * Whether what failed may go well later, by itself.
 * @param {unknown} error
 */
export function isPassing(error) {
  return error instanceof Unreachable || (error instanceof Refused && error.passing);
}

/**
 * What the page's <meta> of that name says.
 * @param {string} name
 */
export function meta(name) {
  return document.querySelector(`meta[name="${name}"]`)?.getAttribute("content") ?? "";
}

/**
 * Send a request and read the answer's JSON; throws Refused or Unreachable.
 * @param {"GET" | "POST" | "PUT" | "DELETE"} method
 * @param {string} path
 * @param {object} [body]
 * @returns {Promise<unknown>}
 */
export async function call(method, path, body) {
  /** @type {Record<string, string>} */
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = meta("csrf");
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response, text;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? null : JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    text = await response.text();
  } catch {
    throw new Unreachable("The server cannot be reached: check your connection and try again.");
  }
  const content = parsed(text);
  if (response.ok) return content;
  throw new Refused(response.status, detailOf(content, response), Number(response.headers.get("Retry-After")) || 0);
}

/** A random id (version 4); crypto.randomUUID is missing where a page comes over plain HTTP. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/**
 * @param {string} text
 * @returns {unknown}
 */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/**
 * The server's words as a sentence.
 * @param {unknown} content
 * @param {Response} response
 */
function detailOf(content, response) {
  const known = typeof content === "object" && content !== null && "detail" in content;
  const detail = known ? String(content.detail) : `the server answered ${response.status}`;
  return `${detail.charAt(0).toUpperCase()}${detail.slice(1)}${/[.!?]$/.test(detail) ? "" : "."}`;
}
