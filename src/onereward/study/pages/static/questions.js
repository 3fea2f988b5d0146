import { byId, copyOf, part } from "./dom.js";

/** @import { Question, Trial } from "./types.js" */

/** What is asked about a trial, as groups of radio buttons. */
export class Questions {
  #list = byId("questions", HTMLElement);
  /** @type {Question[]} */
  #questions = [];

  /** @param {() => void} changed */
  constructor(changed) {
    this.#list.addEventListener("change", () => {
      this.#mark();
      changed();
    });
    this.#list.addEventListener("focusin", () => this.#mark());
  }

  /** @param {Trial} trial */
  show(trial) {
    this.#questions = trial.questions;
    this.#list.replaceChildren(...trial.questions.map(group));
    this.#list.dataset.kind = trial.pictures.length === 2 ? "pair" : "single";
    this.#mark();
  }

  /** The answers until now, by question. */
  get values() {
    const chosen = [...this.#list.querySelectorAll("input")].filter(({ checked }) => checked);
    return Object.fromEntries(chosen.map(({ name, value }) => [name, Number(value)]));
  }

  /** The first question without an answer; undefined if all have one. */
  get missing() {
    return this.#questions.find(({ name }) => !(name in this.values));
  }

  /**
   * Choose the option with a number, from 1, in the question that has the focus or else the first without an answer;
   * the next one without an answer gets the focus. False if there is no such option.
   * @param {number} number
   */
  choose(number) {
    const question = this.#current();
    const radio = question && this.#radios(question)[number - 1];
    if (question === undefined || radio === undefined) return false;
    radio.checked = true;
    radio.dispatchEvent(new Event("change", { bubbles: true }));
    this.focus(this.missing ?? question);
    return true;
  }

  /**
   * Put the focus on a question.
   * @param {Question} question
   */
  focus(question) {
    const radios = this.#radios(question);
    (radios.find(({ checked }) => checked) ?? radios[0]).focus();
  }

  /** Tell which question is the present one. */
  #mark() {
    const at = this.#questions.findIndex((question) => question === this.#current());
    for (const [index, element] of [...this.#list.children].entries()) element.classList.toggle("current", index === at);
  }

  /** The question that has the focus, or else the first without an answer. */
  #current() {
    return this.#focused() ?? this.missing ?? this.#questions.at(-1);
  }

  #focused() {
    const active = document.activeElement;
    const name = active instanceof HTMLInputElement && this.#list.contains(active) ? active.name : "";
    return this.#questions.find((question) => question.name === name);
  }

  /** @param {Question} question */
  #radios({ name }) {
    return [...this.#list.querySelectorAll("input")].filter((radio) => radio.name === name);
  }
}

/** @param {Question} question */
function group({ name, title, question, options, ends }) {
  const element = copyOf("question");
  part(element, "title", HTMLElement).textContent = title;
  part(element, "text", HTMLElement).textContent = question;
  const row = part(element, "options", HTMLElement);
  row.dataset.options = String(options.length);
  row.replaceChildren(
    ...options.map(({ value, label }, index) => {
      const option = copyOf("option");
      const radio = part(option, "radio", HTMLInputElement);
      radio.name = name;
      radio.value = String(value);
      part(option, "label", HTMLElement).textContent = label;
      const key = part(option, "key", HTMLElement);
      key.textContent = String(index + 1);
      key.hidden = ends !== null; // the labels of a scale are its keys
      const end = ends === null ? undefined : [ends[0], ...Array(options.length - 2), ends[1]][index];
      part(option, "end", HTMLElement).textContent = end === undefined ? "" : `, ${end}`;
      return option;
    }),
  );
  for (const [index, name] of ["low", "high"].entries()) {
    const end = part(element, name, HTMLElement);
    end.hidden = ends === null;
    end.textContent = ends === null ? "" : ends[index];
  }
  return element;
}
