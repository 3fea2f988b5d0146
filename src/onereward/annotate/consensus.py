"""What several people say of one triplet, as one vote: by most voices, or weighed by how right a voter tends to be.

Shape legend: A answers, V voters, O options of an item.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby

from onereward.annotate.database import CastVote
from onereward.terms import VoterKind

_ROUNDS = 100
_CLOSE = 1e-6
_FIRST_ACCURACY = 0.7
_PRIOR = 1.0, 1.0  # answers right and wrong that everybody is credited with, so that nobody is ever surely right


class Weighting(StrEnum):
    """What becomes of several votes on one triplet and dimension.

    `each`: all stay, as they were given. `majority`: the choice of most, its share for a weight. `dawid_skene`: the
    likeliest choice if every voter is right with a probability of their own, its probability for a weight.
    """

    EACH = "each"
    MAJORITY = "majority"
    DAWID_SKENE = "dawid_skene"


Item = Hashable
Option = Hashable


@dataclass(frozen=True, kw_only=True)
class Belief:
    """The likeliest option of an item, and how likely it is."""

    option: Option
    probability: float


def weighed(answers: Sequence[CastVote], weighting: Weighting, options: Mapping[str, int]) -> list[CastVote]:
    """The votes that count; `options` has the number of candidates by triplet.

    A consensus whose best or worst is a skip is a skip; where best or worst is a tie, or both are the same candidate,
    there is no vote. The weight is the lower one of the two.
    """
    if weighting is Weighting.EACH:
        return list(answers)
    best, worst = (_beliefs(answers, weighting, options, end) for end in ("best", "worst"))
    made = []
    for _, group in groupby(sorted(answers, key=_item), key=_item):
        first = next(group)
        top, bottom = best.get(_item(first)), worst.get(_item(first))
        if top is None or bottom is None:
            continue
        skipped = None in (top.option, bottom.option)
        if top.option == bottom.option and not skipped:
            continue
        vote = replace(
            first.vote,
            best=None if skipped else top.option,  # type: ignore[arg-type]
            worst=None if skipped else bottom.option,  # type: ignore[arg-type]
            voter=weighting.value,
            kind=VoterKind.PERSON,
            weight=min(top.probability, bottom.probability),
        )
        made.append(replace(first, vote=vote))
    return made


def majority(answers: Iterable[tuple[Item, Option]]) -> dict[Item, Belief]:
    """The option that most have said, with its share; no entry where two have as many."""
    counts: dict[Item, Counter[Option]] = defaultdict(Counter)
    for item, option in answers:
        counts[item][option] += 1
    found = {}
    for item, said in counts.items():
        (option, most), *others = said.most_common(2)
        if not others or others[0][1] < most:
            found[item] = Belief(option=option, probability=most / said.total())
    return found


def dawid_skene(answers: Sequence[tuple[Item, str, Option]], options: Mapping[Item, int]) -> dict[Item, Belief]:
    """One-coin Dawid and Skene: voter v is right with probability a_v, else any other option is as likely.

    `answers` are (item, voter, option), `options` how many an item has. Options differ between items, so that a voter
    has one accuracy and no table of errors. Found by expectation maximisation; no entry where two are as likely.
    """
    of_item: dict[Item, list[tuple[str, Option]]] = defaultdict(list)
    for item, voter, option in answers:
        of_item[item].append((voter, option))
    accuracy = dict.fromkeys((voter for _, voter, _ in answers), _FIRST_ACCURACY)
    beliefs: dict[Item, dict[Option, float]] = {}
    for _ in range(_ROUNDS):
        beliefs = {item: _posterior(said, accuracy, options[item]) for item, said in of_item.items()}
        right, count = Counter[str](), Counter[str]()
        for item, said in of_item.items():
            for voter, option in said:
                right[voter] += beliefs[item][option]  # type: ignore[assignment]
                count[voter] += 1
        good, bad = _PRIOR
        new = {voter: (right[voter] + good) / (count[voter] + good + bad) for voter in accuracy}
        moved = max(abs(new[voter] - accuracy[voter]) for voter in accuracy)
        accuracy = new
        if moved < _CLOSE:
            break
    return {item: top for item, belief in beliefs.items() if (top := _likeliest(belief)) is not None}


def _posterior(said: Sequence[tuple[str, Option]], accuracy: Mapping[str, float], options: int) -> dict[Option, float]:
    """The probability of each option that somebody has named; one that nobody has is never the likeliest."""
    others = max(options - 1, 1)
    wrong = {voter: math.log((1 - accuracy[voter]) / others) for voter, _ in said}
    rest = sum(wrong[voter] for voter, _ in said)  # the log likelihood of one that nobody has named
    logs = dict.fromkeys((option for _, option in said), rest)
    for voter, option in said:
        logs[option] += math.log(accuracy[voter]) - wrong[voter]
    most = max(logs.values())
    likelihood = {option: math.exp(value - most) for option, value in logs.items()}  # products of many would be 0
    total = sum(likelihood.values()) + max(options - len(logs), 0) * math.exp(rest - most)
    return {option: value / total for option, value in likelihood.items()}


def _likeliest(belief: Mapping[Option, float]) -> Belief | None:
    (option, most), *others = sorted(belief.items(), key=lambda pair: -pair[1])
    if others and others[0][1] >= most * (1 - 1e-9):
        return None
    return Belief(option=option, probability=most)


def _beliefs(
    answers: Sequence[CastVote], weighting: Weighting, options: Mapping[str, int], end: str
) -> dict[Item, Belief]:
    if weighting is Weighting.MAJORITY:
        return majority((_item(answer), getattr(answer.vote, end)) for answer in answers)
    named = [(_item(answer), answer.vote.voter, getattr(answer.vote, end)) for answer in answers]
    # A skip is one option more.
    return dawid_skene(named, {_item(answer): options[answer.vote.triplet_id] + 1 for answer in answers})


def _item(answer: CastVote) -> tuple[str, str]:
    return answer.vote.triplet_id, answer.vote.dimension.value
