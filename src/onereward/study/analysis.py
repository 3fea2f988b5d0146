"""What a study says: rates and opinion scores, Good-Same-Bad, Bradley-Terry strengths, agreement, bias; with intervals.

Every interval is about other participants and other items of the same kind (`metrics/intervals.py`), but those of
agreement, which are about other items.
"""

import dataclasses
import itertools
import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from onereward.metrics.agreement import Agreement, Answered, Level, agreement
from onereward.metrics.intervals import Interval, codes_of, crossed_bootstrap, crossed_error, t_reach
from onereward.study.criteria import Criterion, Group, Kind, cells_of
from onereward.study.exclusion import ExclusionRules, LeftOut, digest, exclude
from onereward.study.ratings import Collected, Comparison, Rating

ALL = "all"
"""In `group`: over all groups together."""

BETTER = "better"
"""In `criterion`: which of two outputs is better."""

_NAMED = 3  # participants in an error

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class AnalysisPlan:
    """All that decides the figures besides the answers: frozen, with its digest, before the first answer.

    Differences and Good-Same-Bad are told from the side of `main`, a system's name.
    """

    main: str
    rules: ExclusionRules
    confidence: float = 0.95
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What an estimate rests on."""

    answers: int
    participants: int
    items: int


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """A cell of Table 3: a rate (a fraction) or a mean opinion score.

    `lead` is how far the plan's main system lies above this one, over the pages where the same participant rated both
    outputs of an item; None for the main system itself and where nobody did.
    """

    group: Group
    criterion: Criterion
    system: str
    score: Interval
    lead: Interval | None
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class PreferenceRow:
    """A bar of Fig. 7: how often `system` was better than, as good as and worse than `other`; net is the difference.

    `net` is (good - bad) / all, from -1 to 1.
    """

    group: Group | str
    system: str
    other: str
    good: int
    same: int
    bad: int
    net: Interval
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class StrengthRow:
    """Bradley-Terry strength of a system: log odds of being preferred to the average system; a tie is half a win.

    There is none where one participant or one item is all there is.
    """

    group: Group | str
    system: str
    strength: Interval
    counts: Counts


@dataclass(frozen=True, kw_only=True)
class AgreementRow:
    """How far participants agree on a criterion about the same outputs, or on which of two is `better`."""

    group: Group
    criterion: str
    agreement: Agreement


@dataclass(frozen=True, kw_only=True)
class Results:
    """All figures of one set of answers."""

    participants: int
    scores: tuple[ScoreRow, ...]
    preferences: tuple[PreferenceRow, ...]
    strengths: tuple[StrengthRow, ...]
    agreements: tuple[AgreementRow, ...]
    left_bias: Interval | None
    """How much more often the left output was better than the right, from -1 to 1; None without comparisons."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The results with the plan's exclusions, and beside them those of everybody."""

    plan: AnalysisPlan
    plan_sha256: str
    left_out: tuple[LeftOut, ...]
    results: Results
    everybody: Results

    def to_json(self) -> str:
        """Every figure, as JSON."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"


def analyse(collected: Collected, plan: AnalysisPlan) -> Analysis:
    """All figures of a closed study, with and without exclusions; there may be none with them.

    Raises ValueError, saying who is not counted and why, where there are no answers at all.
    """
    exclusion = exclude(collected, plan.rules)
    if not collected.ratings and not collected.comparisons:
        why = "".join(f"; {row.participant}: {', '.join(row.reasons)}" for row in exclusion.left_out[:_NAMED])
        more = f"; and {len(exclusion.left_out) - _NAMED} more" if len(exclusion.left_out) > _NAMED else ""
        raise ValueError(f"there are no answers to analyse{why}{more}")
    return Analysis(
        plan=plan,
        plan_sha256=digest(plan),
        left_out=exclusion.left_out,
        results=results_of(exclusion.kept, plan),
        everybody=results_of(collected, plan),
    )


def results_of(collected: Collected, plan: AnalysisPlan) -> Results:
    """All figures of these answers, none left out."""
    comparisons = collected.comparisons
    return Results(
        participants=len({a.participant for a in collected.ratings} | {a.participant for a in comparisons}),
        scores=tuple(_score_rows(collected.ratings, plan)),
        preferences=tuple(row for group, of in _groups(comparisons) for row in _preference_rows(group, of, plan)),
        strengths=tuple(row for group, of in _groups(comparisons) for row in _strength_rows(group, of, plan)),
        agreements=(*_rating_agreements(collected.ratings, plan), *_comparison_agreements(comparisons, plan)),
        left_bias=_mean(comparisons, [answer.value for answer in comparisons], (-1, 1), plan) if comparisons else None,
    )


def _score_rows(ratings: Sequence[Rating], plan: AnalysisPlan) -> Iterable[ScoreRow]:
    cells = _by(ratings, lambda rating: (rating.subtask.group, rating.criterion, rating.system))
    systems = sorted({rating.system for rating in ratings})
    for group in Group:
        for criterion, system in itertools.product(cells_of(group), systems):
            if of := cells.get((group, criterion, system)):
                main = [] if system == plan.main else cells.get((group, criterion, plan.main), [])
                yield ScoreRow(
                    group=group,
                    criterion=criterion,
                    system=system,
                    score=_mean(of, [rating.value for rating in of], criterion.bounds, plan),
                    lead=_lead(main, of, criterion, plan),
                    counts=_counts(of),
                )


def _lead(main: Sequence[Rating], other: Sequence[Rating], criterion: Criterion, plan: AnalysisPlan) -> Interval | None:
    """The mean difference of what the same participants said about the same items."""
    values = {(rating.participant, rating.item): rating.value for rating in main}
    both = [rating for rating in other if (rating.participant, rating.item) in values]
    if not both:
        return None
    span = criterion.bounds[1] - criterion.bounds[0]
    differences = [values[rating.participant, rating.item] - rating.value for rating in both]
    return _mean(both, differences, (-span, span), plan)


def _preference_rows(
    group: Group | str, comparisons: Sequence[Comparison], plan: AnalysisPlan
) -> Iterable[PreferenceRow]:
    for (system, other), of in _by(comparisons, lambda answer: _pair(answer, plan.main)).items():
        verdicts = [answer.value if answer.left == system else -answer.value for answer in of]
        yield PreferenceRow(
            group=group,
            system=system,
            other=other,
            good=verdicts.count(1),
            same=verdicts.count(0),
            bad=verdicts.count(-1),
            net=_mean(of, verdicts, (-1, 1), plan),
            counts=_counts(of),
        )


def _pair(answer: Comparison, main: str) -> tuple[str, str]:
    """The two systems, the main one first, others by name."""
    first, second = sorted((answer.left, answer.right), key=lambda system: (system != main, system))
    return first, second


def _strength_rows(group: Group | str, comparisons: Sequence[Comparison], plan: AnalysisPlan) -> Iterable[StrengthRow]:
    systems = sorted({system for answer in comparisons for system in (answer.left, answer.right)})
    left, right = (
        np.array([systems.index(name) for name in names])
        for names in ([answer.left for answer in comparisons], [answer.right for answer in comparisons])
    )
    wins = np.array([(1 + answer.value) / 2 for answer in comparisons])
    strengths, influences_NS = bradley_terry(left, right, wins, len(systems))
    people, items = (codes_of([getattr(a, name) for a in comparisons]) for name in ("participant", "item"))
    units = int(min(people.max(), items.max())) + 1
    if units == 1:  # one person or item tells nothing of others
        return
    for place, system in enumerate(systems):
        reach = t_reach(units, plan.confidence) * crossed_error(influences_NS[:, place], people, items)
        value = float(strengths[place])
        yield StrengthRow(
            group=group,
            system=system,
            strength=Interval(value=value, low=value - reach, high=value + reach),
            counts=_counts([answer for answer in comparisons if system in (answer.left, answer.right)]),
        )


def bradley_terry(
    left_N: NDArray[np.int64], right_N: NDArray[np.int64], wins_N: NDArray[np.float64], systems: int, prior: float = 1.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Strengths (systems,) that sum to 0, and each comparison's influence on them (N, systems), by Newton's method.

    `wins_N` is 1 where the left one won, 0 where the right did and 1/2 for a tie. Each system also has `prior` ties
    with one of average strength, so that one which always wins has a strength too; 0 is Bradley and Terry's model.
    """
    rows = np.arange(len(wins_N))
    design_NS = np.zeros((len(wins_N), systems))
    design_NS[rows, left_N], design_NS[rows, right_N] = 1, -1
    strengths = np.zeros(systems)
    for _ in range(100):
        chances_N = 1 / (1 + np.exp(-design_NS @ strengths))
        pulls_S = np.tanh(strengths / 2) / 2  # of a tie with the average
        curvature = (design_NS * (chances_N * (1 - chances_N))[:, None]).T @ design_NS
        curvature += np.diag(prior * (0.25 - pulls_S**2)) + 1 / systems  # the last holds the sum at 0
        inverse = np.linalg.inv(curvature)
        step = inverse @ (design_NS.T @ (wins_N - chances_N) - prior * pulls_S)
        strengths = strengths + step - (strengths + step).mean()
        if np.abs(step).max() < 1e-10:
            break
    return strengths, (design_NS * (wins_N - chances_N)[:, None]) @ inverse


def _rating_agreements(ratings: Sequence[Rating], plan: AnalysisPlan) -> Iterable[AgreementRow]:
    cells = _by(ratings, lambda rating: (rating.subtask.group, rating.criterion))
    for group in Group:
        for criterion in cells_of(group):
            answers = [
                Answered(item=(rating.item, rating.system), person=rating.participant, value=rating.value)
                for rating in cells.get((group, criterion), [])
            ]
            if answers:
                level = Level.NOMINAL if criterion.question.kind is Kind.BINARY else Level.ORDINAL
                yield AgreementRow(group=group, criterion=criterion, agreement=_agreement(answers, level, plan))


def _comparison_agreements(comparisons: Sequence[Comparison], plan: AnalysisPlan) -> Iterable[AgreementRow]:
    for group, of in _by(comparisons, lambda answer: answer.subtask.group).items():
        answers = [
            Answered(
                item=(answer.item, *_pair(answer, plan.main)),
                person=answer.participant,
                value=answer.value if answer.left == _pair(answer, plan.main)[0] else -answer.value,
            )
            for answer in of
        ]
        yield AgreementRow(group=group, criterion=BETTER, agreement=_agreement(answers, Level.ORDINAL, plan))


def _agreement(answers: Sequence[Answered], level: Level, plan: AnalysisPlan) -> Agreement:
    return agreement(answers, level=level, seed=plan.seed, resamples=plan.resamples, confidence=plan.confidence)


def _mean(
    answers: Sequence[Rating] | Sequence[Comparison],
    values: Sequence[int],
    bounds: tuple[int, int],
    plan: AnalysisPlan,
) -> Interval:
    return crossed_bootstrap(
        values,
        [answer.participant for answer in answers],
        [answer.item for answer in answers],
        bounds=bounds,
        seed=plan.seed,
        resamples=plan.resamples,
        confidence=plan.confidence,
    )


def _groups(comparisons: Sequence[Comparison]) -> list[tuple[Group | str, Sequence[Comparison]]]:
    """The comparisons of each group, and of all together where there are several."""
    by_group = _by(comparisons, lambda answer: answer.subtask.group)
    groups: list[tuple[Group | str, Sequence[Comparison]]] = [(g, by_group[g]) for g in Group if g in by_group]
    return [*groups, (ALL, comparisons)] if len(groups) > 1 else groups


def _counts(answers: Sequence[Rating] | Sequence[Comparison]) -> Counts:
    return Counts(
        answers=len(answers),
        participants=len({answer.participant for answer in answers}),
        items=len({answer.item for answer in answers}),
    )


def _by(values: Iterable[Value], key: Callable[[Value], Key]) -> dict[Key, list[Value]]:
    """The values by their key, in order of first appearance."""
    groups: dict[Key, list[Value]] = {}
    for value in values:
        groups.setdefault(key(value), []).append(value)
    return groups
