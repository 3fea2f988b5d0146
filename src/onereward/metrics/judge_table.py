"""Tables 1 and 4 with all that belongs to them: a function of answers alone, so that no judge is needed to see them."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from onereward.metrics.accuracy import AccuracyRow, accuracy_rows
from onereward.metrics.calibration import Reliability, reliability_rows
from onereward.metrics.ceiling import CeilingRow, ceiling_rows
from onereward.metrics.comparison import Comparison, comparison_rows
from onereward.metrics.records import Answer


@dataclass(frozen=True, kw_only=True)
class JudgeTable:
    """Accuracy by row and cell, rows against rows, reliability, and how often the voters agree with one another."""

    judge: Sequence[AccuracyRow] = ()
    comparisons: Sequence[Comparison] = ()
    reliability: Sequence[Reliability] = ()
    ceiling: Sequence[CeilingRow] = ()

    def to_json(self) -> str:
        """Rates as fractions; keys are the field names."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True)


def judge_table(answers: Iterable[Answer], *, seed: int = 0) -> JudgeTable:
    """The tables of the rows that `answers` name; the ceiling is that of the first row's preferences."""
    told = list(answers)
    return JudgeTable(
        judge=accuracy_rows(told, seed=seed),
        comparisons=comparison_rows(told, seed=seed),
        reliability=reliability_rows(told, seed=seed),
        ceiling=ceiling_rows((answer for answer in told if answer.variant == told[0].variant), seed=seed),
    )
