/**
 * What crosses the border between these pages and the server, as types.
 *
 * @typedef {"alike" | "all_bad" | "unclear"} Reason why a dimension is skipped
 *
 * @typedef {object} Vote
 * @property {string} dimension
 * @property {number | null} best place of a candidate, from 0
 * @property {number | null} worst
 * @property {Reason | null} reason
 *
 * @typedef {object} Dimension
 * @property {string} name
 * @property {string} title
 * @property {string} question
 *
 * @typedef {object} Assignment
 * @property {string} id
 * @property {"fill" | "extend" | "remove" | "text"} task
 * @property {string} prompt
 * @property {string} source id of an image
 * @property {string} mask id of an image, white where it was repainted
 * @property {number} width
 * @property {number} height
 * @property {string[]} candidates ids of images, in the order that this person sees
 * @property {Dimension[]} dimensions
 * @property {number} lease_seconds
 * @property {number} minimum_seconds
 * @property {Vote[] | null} votes what was answered before, where it is being corrected
 * @property {boolean} practice
 *
 * @typedef {object} Progress
 * @property {number} done
 * @property {number} remaining
 * @property {number | null} seconds_an_item
 *
 * @typedef {object} Held
 * @property {Assignment[]} open
 * @property {Progress} progress
 * @property {{keys?: Record<string, string>}} settings
 *
 * @typedef {"finished" | "paused" | "busy"} Nothing why there is no next item
 *
 * @typedef {object} Answer
 * @property {string} uuid of this request: sent again, it is no second answer
 * @property {string} assignment
 * @property {number} seconds
 * @property {Vote[]} votes
 *
 * @typedef {object} Accepted
 * @property {"accepted" | "known" | "late"} state
 * @property {Progress} progress
 *
 * @typedef {{asked: number, right: number}} Share
 *
 * @typedef {object} Interval
 * @property {number} value
 * @property {number | null} low
 * @property {number | null} high
 *
 * @typedef {object} PersonRow
 * @property {string} id
 * @property {string | null} name null once erased
 * @property {"annotator" | "admin"} role
 * @property {boolean} withdrawn
 * @property {boolean} dropped whether their answers are not counted
 * @property {number} done
 * @property {number} open items held now
 * @property {number | null} seconds_an_item
 * @property {Share} gold answers to items whose answer is known
 * @property {Share} repeats items seen again that were answered as before
 * @property {number | null} last_seen seconds since 1970
 *
 * @typedef {object} AgreementRow
 * @property {string} dimension
 * @property {string} title
 * @property {number} items with two answers at least
 * @property {Interval | null} alpha Krippendorff's
 * @property {Interval | null} pairwise share of pairs of people with the same answer
 *
 * @typedef {object} LeaseRow
 * @property {string} assignment
 * @property {string | null} name of the person who holds it
 * @property {string} item
 * @property {number} since seconds since 1970
 * @property {number} until
 *
 * @typedef {object} ProjectProgress
 * @property {number} items
 * @property {number} items_done
 * @property {number} answers
 * @property {number} answers_wanted
 * @property {number} items_short that wait for somebody else than those who take part
 * @property {number | null} seconds_an_item
 * @property {number | null} minutes_left
 *
 * @typedef {object} Summary
 * @property {boolean} paused
 * @property {number} now seconds since 1970, by the server's clock
 * @property {ProjectProgress} progress
 * @property {PersonRow[]} people
 * @property {AgreementRow[]} agreement
 * @property {LeaseRow[]} leases
 *
 * @typedef {object} Draft choices that are not yet submitted
 * @property {Assignment} item
 * @property {Vote[]} votes
 * @property {number} seconds
 */
export {};
