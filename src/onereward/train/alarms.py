"""Is the training still doing what it is for? Rules over each probe's figures, and what is done when one fires.

A policy that climbs its judge instead of getting better shows in three places: a judge that it was never trained on
prefers it less, one dimension pays for another, or its colours and textures drift. Nothing here reads or writes.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from onereward.metrics.appearance import Appearance
from onereward.runtime.checks import require

Cells = Mapping[str, Mapping[str, float]]
"""Numbers by task and then by dimension, or by what else is measured of a task."""

_START = 0.5  # what the start wins against itself


class Alarm(StrEnum):
    """The rules: what has happened."""

    HACKED = "hacked"  # the held-out judge fell while the training judge did not
    COLLAPSED = "collapsed"  # a dimension of a task loses to the start
    DRIFTED = "drifted"  # colours or textures moved too far from the start's
    NOT_FINITE = "not_finite"  # a figure is infinite or not a number


class Action(StrEnum):
    """What the trainer does about it; of several the last in this order."""

    WARN = "warn"
    LOWER_RATE = "lower_rate"  # half the learning rate
    ROLL_BACK = "roll_back"  # to the best probe, and half the learning rate
    STOP = "stop"


@dataclass(frozen=True, kw_only=True)
class AlarmConfig:
    """When the alarms fire and what then; a recipe states every value."""

    alarm_actions: Mapping[Alarm, Action]
    alarm_fall: float  # of the held-out judge's mean win rate below its best: more than the probe's noise; 1 is never
    alarm_patience: int  # probes in a row that must show that fall; what lasts, of any kind, fires again after as many
    alarm_floor: float  # a dimension's win rate below which it is lost: the start's is .5; 0 is never
    alarm_drift: Mapping[str, float]  # how far a figure may move, up or down; `Appearance` says what is much

    def __post_init__(self) -> None:
        require(self, at_least=0, at_most=1, fields=("alarm_fall", "alarm_floor"))
        require(self, at_least=1, fields=("alarm_patience",))
        if set(self.alarm_actions) != set(Alarm):
            got = ", ".join(self.alarm_actions) or "none"
            raise ValueError(f"got alarm_actions for {got}, expected one for each of {', '.join(Alarm)}")
        known = [field.name for field in fields(Appearance)]
        for name, bound in self.alarm_drift.items():
            if name not in known or not bound >= 0:
                listed = ", ".join(known)
                raise ValueError(f"got alarm_drift {name!r}: {bound}, expected 0 or more for some of {listed}")


@dataclass(frozen=True, kw_only=True)
class ProbeFigures:
    """What a probe after `step` steps found, against the frozen start."""

    step: int
    reward: Cells  # mean P(yes) of the judge trained with
    held_out: Cells | None  # the same of a judge never trained with; None without one: HACKED is then never seen
    drift: Cells  # by task, of each figure of appearance
    others: Mapping[str, float] = field(default_factory=dict)  # numbers that need only be finite: loss, grad_norm


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The alarms that fired at one probe, as a person reads them, and the gravest of their actions, if any."""

    alarms: tuple[str, ...]
    action: Action | None


class Watch:
    """The rules' memory over a run; a part of a checkpoint.

    `best_step` is the probe to roll back to, 0 for the start: the best mean win rate by the held-out judge (without one
    by the training judge) among the probes at which all was well. `rate_scale` multiplies the learning rate. After a
    roll back keep this object, and do not load the state that the checkpoint holds of it.
    """

    def __init__(self, config: AlarmConfig) -> None:
        self._config = config
        self.best_step, self.best, self._best_reward = 0, _START, _START
        self.rate_scale, self.fired = 1.0, 0
        self._peak_step, self._peak_held_out, self._peak_reward = 0, _START, _START
        self._lasting: dict[str, int] = {}  # probes in a row at which something is wrong

    def note(self, figures: ProbeFigures) -> Verdict:
        """What a probe's figures give rise to; the action is for the caller to do."""
        found = list(self._found(figures))
        fired = [(alarm, words) for alarm, words, fires in found if fires]
        action = max((self._config.alarm_actions[alarm] for alarm, _ in fired), key=list(Action).index, default=None)
        judged, reward = _mean(figures.held_out or figures.reward), _mean(figures.reward)
        if not found and judged > self.best:
            self.best_step, self.best, self._best_reward = figures.step, judged, reward
        self.fired += len(fired)
        if action in (Action.LOWER_RATE, Action.ROLL_BACK):
            self.rate_scale /= 2
        if action is Action.ROLL_BACK:
            self._lasting.clear()
            self._peak_step, self._peak_held_out, self._peak_reward = self.best_step, self.best, self._best_reward
        return Verdict(alarms=tuple(words for _, words in fired), action=action)

    def state_dict(self) -> dict[str, Any]:
        """Its numbers."""
        return {name: value for name, value in vars(self).items() if name != "_config"} | {
            "_lasting": dict(self._lasting)
        }

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Put them back."""
        vars(self).update(state)
        self._lasting = dict(state["_lasting"])

    def _found(self, figures: ProbeFigures) -> Iterator[tuple[Alarm, str, bool]]:
        """Each thing that is wrong now, in words, and whether it fires at this probe."""
        wrong = [name for name, value in _all_numbers(figures) if not math.isfinite(value)]
        if wrong:
            yield Alarm.NOT_FINITE, f"not a finite number: {', '.join(wrong)}", True
            return
        patience = self._config.alarm_patience
        if figures.held_out is not None:
            count = self._count("hacked", self._is_hacked(figures.step, _mean(figures.held_out), _mean(figures.reward)))
            if count:
                yield Alarm.HACKED, self._hacked_in_words(figures), count % patience == 0
        for name, alarm, words, is_wrong in self._of_cells(figures):
            count = self._count(name, is_wrong)
            if count:
                yield alarm, words, (count - 1) % patience == 0

    def _is_hacked(self, step: int, held_out: float, reward: float) -> bool:
        if held_out > self._peak_held_out:
            self._peak_step, self._peak_held_out, self._peak_reward = step, held_out, reward
        return self._peak_held_out - held_out > self._config.alarm_fall and reward >= self._peak_reward

    def _hacked_in_words(self, figures: ProbeFigures) -> str:
        held_out = f"{_short(self._peak_held_out)} -> {_short(_mean(figures.held_out or {}))}"
        reward = f"{_short(self._peak_reward)} -> {_short(_mean(figures.reward))}"
        return f"held-out judge {held_out} since step {self._peak_step} while reward rose {reward}"

    def _of_cells(self, figures: ProbeFigures) -> Iterator[tuple[str, Alarm, str, bool]]:
        """A name, the rule, the words and whether it is broken, of every cell that has a bound."""
        floor = self._config.alarm_floor
        for judge, cells in (("reward", figures.reward), ("held-out judge", figures.held_out or {})):
            for name, value in _numbers(judge, cells):
                words = f"{name} lost against the start: {_short(value)}, below {_short(floor)}"
                yield f"collapsed {name}", Alarm.COLLAPSED, words, value < floor
        for task, moved in figures.drift.items():
            for name, bound in self._config.alarm_drift.items():
                value = moved[name]
                words = f"{task}: {name.replace('_', ' ')} drifted by {_short(value, '+')}, beyond {_short(bound)}"
                yield f"drifted {task} {name}", Alarm.DRIFTED, words, abs(value) > bound

    def _count(self, name: str, is_wrong: bool) -> int:
        """For how many probes in a row this has been wrong."""
        before = self._lasting.pop(name, 0)
        if is_wrong:
            self._lasting[name] = before + 1
        return self._lasting.get(name, 0)


def _all_numbers(figures: ProbeFigures) -> Iterator[tuple[str, float]]:
    yield from figures.others.items()
    yield from _numbers("reward", figures.reward)
    yield from _numbers("held-out judge", figures.held_out or {})
    yield from _numbers("drift", figures.drift)


def _numbers(what: str, cells: Cells) -> Iterator[tuple[str, float]]:
    """A cell's name and its number."""
    for task, row in cells.items():
        for column, value in row.items():
            yield f"{what} of {task}, {column.replace('_', ' ')}", value


def _mean(cells: Cells) -> float:
    """Over all cells alike; the start's own without any."""
    values = [value for row in cells.values() for value in row.values()]
    return sum(values) / len(values) if values else _START


def _short(value: float, sign: str = "") -> str:
    """A fraction with two digits, as in .62."""
    text = f"{value:{sign}.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text
