/**
 * What crosses the border between these pages and the server, as types.
 *
 * @typedef {object} Option
 * @property {number} value
 * @property {string} label
 *
 * @typedef {object} Question
 * @property {string} name
 * @property {string} title
 * @property {string} question
 * @property {Option[]} options
 * @property {[string, string] | null} ends what the least and the most of a scale mean
 *
 * @typedef {object} Trial
 * @property {string} id
 * @property {boolean} practice
 * @property {string} task what the picture is an example of, in words
 * @property {string} instruction what was wanted of it
 * @property {string | null} prompt
 * @property {string | null} note an instruction of its own
 * @property {string} source id of a picture
 * @property {string} mask id of a picture, white where it was to change
 * @property {number} width
 * @property {number} height
 * @property {string[]} pictures ids: the one to rate, or left and right
 * @property {Question[]} questions
 *
 * @typedef {"consent" | "instructions" | "practice" | "ready" | "work" | "finished" | "full" | "closed"} Stage
 *
 * @typedef {object} Place where somebody is in the study
 * @property {Stage} stage
 * @property {Trial[]} trials the next ones
 * @property {number} done
 * @property {number} total
 * @property {number[]} breaks answers after each of which a break is offered
 *
 * @typedef {object} Answer
 * @property {string} uuid of this request: sent again, it is no second answer
 * @property {string} trial
 * @property {number} seconds
 * @property {Record<string, number>} values
 *
 * @typedef {object} Accepted
 * @property {"accepted" | "known"} state
 * @property {Place} place
 */
export {};
