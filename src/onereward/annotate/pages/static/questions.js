import { byId, copyOf, part, say } from "./dom.js";
import { isAnswered } from "./choices.js";

/** @import { Assignment, Reason, Vote } from "./types.js" */
/** @import { Choices } from "./choices.js" */

/** @type {Reason[]} in the order of their numbers */
export const REASONS = ["alike", "all_bad", "unclear"];
/** @type {Record<Reason, string>} */
export const SAID = { alike: "All alike", all_bad: "All bad", unclear: "Cannot tell" };

/** The questions about an item with what was answered, and the reasons to skip one. */
export class Questions {
  #list = byId("questions", HTMLElement);
  #skip = byId("skip", HTMLButtonElement);
  #reasons = byId("reasons", HTMLElement);
  /** @type {HTMLButtonElement[]} */
  #buttons = [];

  /**
   * @param {(index: number) => void} gone to another question
   * @param {(reason: Reason) => void} skipped
   */
  constructor(gone, skipped) {
    this.gone = gone;
    this.#skip.addEventListener("click", () => this.ask(this.#reasons.hidden));
    for (const reason of REASONS) {
      part(this.#reasons, reason, HTMLButtonElement).addEventListener("click", () => skipped(reason));
    }
    document.addEventListener("keydown", ({ key }) => {
      if (key === "Escape" && document.querySelector("dialog[open]") === null) this.ask(false);
    });
  }

  /** Whether a reason is asked for. */
  get asking() {
    return !this.#reasons.hidden;
  }

  /** @param {boolean} asking */
  ask(asking) {
    this.#reasons.hidden = !asking;
    this.#skip.setAttribute("aria-expanded", String(asking));
  }

  /** @param {Assignment} item */
  show(item) {
    const rows = item.dimensions.map(({ title, question }, index) => {
      const row = copyOf("question");
      const button = part(row, "button", HTMLButtonElement);
      part(row, "title", HTMLElement).textContent = title;
      part(row, "question", HTMLElement).textContent = question;
      button.addEventListener("focus", () => this.gone(index));
      button.addEventListener("click", () => this.gone(index));
      return row;
    });
    this.#list.replaceChildren(...rows);
    this.#buttons = rows.map((row) => part(row, "button", HTMLButtonElement));
  }

  /**
   * Print what was chosen.
   * @param {Choices} choices
   */
  print(choices) {
    this.ask(false);
    for (const [index, button] of this.#buttons.entries()) {
      const vote = choices.votes[index];
      button.dataset.state = vote.reason !== null ? "skipped" : isAnswered(vote) ? "done" : "open";
      say(part(button, "answer", HTMLElement), sentence(vote));
      if (index === choices.current) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  /**
   * Put the focus on a question.
   * @param {number} index
   */
  focus(index) {
    this.#buttons[index]?.focus({ preventScroll: true });
  }

  /** Whether the focus is on a question or nowhere. */
  get hasFocus() {
    const active = document.activeElement;
    return active === null || active === document.body || this.#list.contains(active);
  }
}

/** @param {Vote} vote */
export function sentence(vote) {
  if (vote.reason !== null) return `Skipped: ${SAID[vote.reason].toLowerCase()}`;
  const best = vote.best === null ? "" : `Best ${vote.best + 1}`;
  const worst = vote.worst === null ? "" : `Worst ${vote.worst + 1}`;
  return [best, worst].filter(Boolean).join(" · ") || "No answer yet";
}
