"""PrefPaint's set of ranked inpaintings: three fills of each masked image, scored and ranked by people.

No card of the data and no public copy of them could be found. The schema is what the project's own code reads
(InpaintRewardDataset.py in github.com/Kenkenzaii/PrefPaint): JSON of either form

    {"ADE_train_1_0": [score, rank], "ADE_train_1_1": [score, rank], ...}
    {"ADE_train_1": {"ADE_train_1_0": [score, rank], ...}, ...}

where a name without its last _N names the masked image, and the fill lies in inpaint/NAME.png. That rank 1 is the best
stands in that code; that the higher score is the better one is inferred, since the reward is trained on it. Paths begin
at the folder that holds inpaint/: name it with --images. There are no prompts. Aesthetics and the verdict on the whole
are the rank. For a table of another form, such as one with several dimensions, there is the format `table`.
"""

from collections.abc import Mapping
from typing import Any

from onereward.readers.cells import Reason, Rejected, Row, text, value
from onereward.readers.layouts import Format, Group, Judged, Layout, Verdict
from onereward.terms import Dimension


def _image_id(row: Row) -> str:
    return text(row, "name").rsplit("_", 1)[0]


def _of_one(row: Row) -> Judged:
    return _judged(_image_id(row), [text(row, "name")])


def _of_many(row: Row) -> Judged:
    return _judged(text(row, "name"), list(_entries(row)))


def _judged(image_id: str, names: list[str]) -> Judged:
    source = f"prefpaint-{image_id}"
    return Judged(id=source, source=source, images=tuple(f"inpaint/{name}.png" for name in names))


def _entries(row: Row) -> Mapping[str, Any]:
    entries: Mapping[str, Any] = value(row, "entries")
    return entries


def _at(place: int, row: Row) -> tuple[float, ...]:
    """The numbers at one place of a row's lists [score, rank]."""
    lists = _entries(row).values() if "entries" in row else [value(row, "values")]
    return tuple(_number_at(place, given) for given in lists)


def _number_at(place: int, given: object) -> float:
    if not (isinstance(given, list) and len(given) == 2 and all(isinstance(number, int | float) for number in given)):
        raise Rejected(Reason.UNKNOWN_LABEL, f"got {str(given)[:60]}, expected [score, rank]")
    return float(given[place])


def _layout(column: str) -> Layout:
    return Layout(
        columns=("name", column),
        verdicts={
            "score": Verdict(columns=(), scores=lambda row: _at(0, row)),
            "rank": Verdict(columns=(), scores=lambda row: tuple(-rank for rank in _at(1, row))),
        },
        judged=_of_one if column == "values" else _of_many,
        group=Group(columns=("name",), of=_image_id) if column == "values" else None,
    )


PREFPAINT = Format(
    name="prefpaint",
    layouts=(_layout("values"), _layout("entries")),
    dimensions={Dimension.AESTHETICS: "rank"},
    overall="rank",
)
