"""What a report says, as rows: read from the folders that the stages wrote, before anything is drawn."""

import dataclasses
import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from onereward.metrics.accuracy import AccuracyRow
from onereward.metrics.gsb import GoodSameBad, ScoreRow, good_same_bad, score_rows, score_table
from onereward.metrics.intervals import bootstrap_mean
from onereward.metrics.judge_table import JudgeTable, judge_table
from onereward.metrics.records import CEILING, HOLE, Answer, Edit, Score
from onereward.report.curves import Curve, read_curves
from onereward.store.shards import read_manifest, read_records
from onereward.terms import Task

BASE = "base"

ANSWERS, TABLE_JSON = "answers", "table.json"
"""In the folder of `evaluate judge`: a folder of answers a row, and the table, which has the rows in their order."""

_PACKAGES = ("onereward", "torch", "diffusers", "transformers", "numpy", "scipy", "pyarrow", "pillow")
_EXAMPLES_PER_TASK = 4


@dataclass(frozen=True, kw_only=True)
class TimeRow:
    """Wall time of one stage in seconds, over all its starts, and the time it was meant to take at most (or None)."""

    stage: str
    seconds: float
    budget: float | None


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """The folders a report is made from; a section whose input is missing is left out.

    `edits` and `scores` are the two folders of `evaluate editor`, `answers` those of `evaluate judge` (of a whole table
    or of one row's answers), `runs` maps an editor's name to its RL run folder, `skips` is what `annotate --json`
    printed, `timing` the stages' wall time, and `stages` are further stages' folders whose settings are shown. `seed`
    keys the bootstrap.
    """

    stages: tuple[Path, ...] = ()
    edits: Path | None = None
    scores: Path | None = None
    answers: tuple[Path, ...] = ()
    runs: Mapping[str, Path] = field(default_factory=dict)
    skips: Path | None = None
    timing: Sequence[TimeRow] = ()
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting of one stage, as its manifest or config tells it."""

    stage: str
    name: str
    value: str


@dataclass(frozen=True, kw_only=True)
class DriftRow:
    """Mean change outside the mask before paste-back, in grey levels, with its interval over triplets."""

    editor: str
    n: int
    drift: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class SkipRow:
    """How many votes of a cell were skips because the candidates differed by less than the dead band."""

    task: str
    dimension: str
    votes: int
    skips: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Example:
    """One triplet with its images as encoded files: the source with its hole, then one an editor."""

    triplet_id: str
    task: Task
    prompt: str
    images: Mapping[str, bytes]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything the page shows; `to_json` is the same without pictures."""

    settings: Sequence[Setting] = ()
    table: JudgeTable = field(default_factory=JudgeTable)
    curves: Sequence[Curve] = ()
    examples: Sequence[Example] = ()
    scores: Sequence[ScoreRow] = ()
    gsb: Sequence[GoodSameBad] = ()
    drift: Sequence[DriftRow] = ()
    skips: Sequence[SkipRow] = ()
    timing: Sequence[TimeRow] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def judge(self) -> Sequence[AccuracyRow]:
        """The judge's accuracy by row and cell."""
        return self.table.judge

    def to_json(self) -> str:
        """Every figure shown, rates as fractions; keys are the field names, `examples` names the triplets shown.

        Those of `table` stand beside the others: `judge`, `comparisons`, `reliability`, `ceiling`.
        """
        content = dataclasses.asdict(dataclasses.replace(self, examples=()))
        content |= content.pop("table") | {"examples": [example.triplet_id for example in self.examples]}
        return json.dumps(content, indent=1, sort_keys=True)


def read_report(inputs: ReportInputs) -> Report:
    """Read every input and compute the rows; ValueError names an input that is missing or unfinished."""
    inputs = dataclasses.replace(inputs, answers=_answer_folders(inputs.answers))
    edits = list(read_records(inputs.edits, Edit)) if inputs.edits else []
    table = score_table(read_records(inputs.scores, Score)) if inputs.scores else {}
    names = list(dict.fromkeys(edit.editor for edit in edits)) or sorted({e for of in table.values() for e in of})
    editors = [name for name in names if name not in (HOLE, CEILING)]
    rivals = [name for name in editors if name != BASE]
    answers = _read_answers(inputs.answers)
    curves = [curve for name, run in inputs.runs.items() for curve in read_curves(name, run)]
    return Report(
        settings=_settings(inputs),
        table=judge_table(answers, seed=inputs.seed),
        curves=curves,
        examples=_examples(edits, [HOLE, *editors]),
        scores=[row for name in editors for row in score_rows(table, name, BASE, seed=inputs.seed)] if table else [],
        gsb=[row for name in rivals for row in good_same_bad(table, name, BASE, seed=inputs.seed)] if table else [],
        drift=[_drift(edits, name, inputs.seed) for name in editors if edits],
        skips=_read_skips(inputs.skips) if inputs.skips else (),
        timing=inputs.timing,
        versions=_versions(),
    )


def _examples(edits: Iterable[Edit], editors: Sequence[str]) -> list[Example]:
    """The first few triplets of each task that every editor edited: never chosen by their look."""
    by_triplet: dict[str, dict[str, Edit]] = {}
    for edit in edits:
        by_triplet.setdefault(edit.triplet_id, {})[edit.editor] = edit
    chosen = []
    for task in Task:
        complete = [of for of in by_triplet.values() if all(name in of and of[name].task is task for name in editors)]
        for of in complete[:_EXAMPLES_PER_TASK]:
            first = of[editors[0]]
            images = {name: of[name].image for name in editors}
            chosen.append(Example(triplet_id=first.triplet_id, task=task, prompt=first.prompt, images=images))
    return chosen


def _drift(edits: Iterable[Edit], editor: str, seed: int) -> DriftRow:
    values = [edit.drift for edit in edits if edit.editor == editor]
    interval = bootstrap_mean(values, seed=seed)
    return DriftRow(editor=editor, n=len(values), drift=interval.value, low=interval.low, high=interval.high)


def _read_skips(path: Path) -> list[SkipRow]:
    """The rows under `skips` in what `onereward annotate ... --json` printed."""
    return [SkipRow(**row) for row in json.loads(path.read_text())["skips"]]


def _answer_folders(folders: Iterable[Path]) -> tuple[Path, ...]:
    """The folders of answers, those of a whole table in the order of its rows."""
    found: list[Path] = []
    for folder in folders:
        table = folder / TABLE_JSON
        rows = json.loads(table.read_text())["judge"] if table.exists() else ()
        names = dict.fromkeys(row["variant"] for row in rows)
        found += [folder / ANSWERS / name for name in names] if names else [folder]
    return tuple(found)


def _read_answers(folders: Iterable[Path]) -> list[Answer]:
    """The answers of all folders; ValueError where two hold a row of one name, whose pairs would count as one row's."""
    home: dict[str, Path] = {}
    answers = []
    for folder in folders:
        for answer in read_records(folder, Answer):
            if home.setdefault(answer.variant, folder) != folder:
                raise ValueError(
                    f"{home[answer.variant]} and {folder} both hold a row named {answer.variant}: give one of them, or "
                    "ask again under another name (evaluate judge --judge NAME=...)"
                )
            answers.append(answer)
    return answers


def _settings(inputs: ReportInputs) -> list[Setting]:
    """Each stage's config as its manifest tells it, and each run's config.json."""
    rows = []
    for folder in (*inputs.stages, inputs.edits, inputs.scores):
        if folder is not None:
            plan = read_manifest(folder).plan
            rows += [Setting(stage=plan.stage, name=name, value=_short(value)) for name, value in plan.config.items()]
    for folder in inputs.answers:
        plan = read_manifest(folder).plan
        told = {name: value for name, value in plan.config.items() if name != "label"} | dict(plan.inputs)
        stage = f"{plan.stage}: {plan.config.get('label', folder.name)}"
        rows += [Setting(stage=stage, name=name, value=_short(value)) for name, value in told.items()]
    for editor, run in inputs.runs.items():
        config = json.loads((run / "config.json").read_text())
        rows += [Setting(stage=editor, name=name, value=_short(value)) for name, value in config.items()]
    return list(dict.fromkeys(rows))


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
