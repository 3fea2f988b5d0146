"""Any table of preferences: columns by these names, or by others that --map leads to them.

    one pair a row      winner, loser; where `tie` is true neither is better
    one pair a row      first, second, label: 1 or first, 0 or second, 0.5 or tie
    one image a row     image, group, and score (the higher the better) or rank (1 is the best): images of one group are
                        compared with each other

Each may also have prompt, source (a name, or the source image), triplet_id, voter, weight, task, dimension. Without
`source` splits go by triplet_id, and without that by what they have of source and prompt, or else by the images.
"""

from collections.abc import Callable
from typing import TypeVar

from onereward.readers.cells import Reason, Rejected, Row, is_empty, label, numbers, optional_text, text
from onereward.readers.layouts import Format, Group, Judged, Layout, Verdict, higher, lower
from onereward.terms import Dimension, dimension_named, task_named

Term = TypeVar("Term")

_OPTIONAL = ("prompt", "source", "triplet_id", "voter", "weight", "task", "dimension")
_FIRST, _SECOND, _NEITHER = (1.0, 0.0), (0.0, 1.0), (0.0, 0.0)
_LABELS = {
    "1": _FIRST, "1.0": _FIRST, "first": _FIRST,
    "0": _SECOND, "0.0": _SECOND, "second": _SECOND,
    "0.5": _NEITHER, "tie": _NEITHER,
}  # fmt: skip
_TIES = {
    "false": _FIRST, "0": _FIRST, "0.0": _FIRST, "no": _FIRST,
    "true": _NEITHER, "1": _NEITHER, "1.0": _NEITHER, "yes": _NEITHER,
}  # fmt: skip


def _judged(*images: str, source: str = "source") -> Callable[[Row], Judged]:
    """How a row is read whose images lie in these columns; `source` is the column that names it, if it does not."""

    def judged(row: Row) -> Judged:
        held = row.get("source") if isinstance(row.get("source"), bytes | dict) else None
        named = "" if held is not None else optional_text(row, "source", optional_text(row, source))
        return Judged(
            images=tuple(row.get(image) for image in images),
            prompt=optional_text(row, "prompt"),
            source=named,
            source_image=held,
            id=optional_text(row, "triplet_id"),
            voter=optional_text(row, "voter"),
            weight=_weight(row),
            task=_term(row, "task", task_named),
            dimension=_term(row, "dimension", dimension_named),
        )

    return judged


def _weight(row: Row) -> float:
    if is_empty(row.get("weight")):
        return 1.0
    (weight,) = numbers(row, "weight")
    if weight <= 0:
        raise Rejected(Reason.UNKNOWN_LABEL, f"weight is {weight}, expected a number above 0")
    return weight


def _term(row: Row, name: str, named: Callable[[str], Term]) -> Term | None:
    word = optional_text(row, name)
    try:
        return named(word) if word else None
    except ValueError as error:
        raise Rejected(Reason.UNKNOWN_LABEL, str(error)) from error


def _compared(row: Row) -> str:
    """One voter's images of one group, in one dimension."""
    return "\0".join([text(row, "group"), *(optional_text(row, name) for name in ("voter", "task", "dimension"))])


def _one_image(score: Verdict) -> Layout:
    return Layout(
        columns=("image", "group"),
        verdicts={"preference": score},
        judged=_judged("image", source="group"),
        optional=_OPTIONAL,
        group=Group(columns=("group", "voter", "task", "dimension"), of=_compared),
    )


TABLE = Format(
    name="table",
    layouts=(
        Layout(
            columns=("winner", "loser"),
            verdicts={"preference": Verdict(columns=(), scores=lambda row: label(row, "tie", _TIES, "false"))},
            judged=_judged("winner", "loser"),
            optional=("tie", *_OPTIONAL),
        ),
        Layout(
            columns=("first", "second"),
            verdicts={
                "preference": Verdict(columns=("label",), scores=lambda row: label(row, "label", _LABELS)),
            },
            judged=_judged("first", "second"),
            optional=_OPTIONAL,
        ),
        _one_image(higher("score")),
        _one_image(lower("rank")),
    ),
    dimensions={Dimension.AESTHETICS: "preference"},
    overall="preference",
)
