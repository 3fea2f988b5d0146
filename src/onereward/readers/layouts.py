"""What a format is: the columns that its files have, and what a row of them says of which images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from onereward.readers.cells import Reason, Rejected, Row, numbers
from onereward.terms import DIMENSIONS, Dimension, Task


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What one voter said of some images of one source and prompt.

    `images` are cells as they lie in the row; `scores` has, for each verdict asked for, one number an image, the higher
    the better. `source` names what splits must keep together, or else `source_image` is the cell that holds it. Without
    `id` source and prompt name the triplet. `task` and `dimension` are those that the row itself names.
    """

    images: tuple[Any, ...]
    prompt: str = ""
    source: str = ""
    source_image: Any = None
    id: str = ""
    voter: str = ""
    weight: float = 1.0
    task: Task | None = None
    dimension: Dimension | None = None
    scores: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Something that was judged: the columns that say it, and the scores that a row gives its images."""

    columns: tuple[str, ...]
    scores: Callable[[Row], tuple[float, ...]]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One form of a format's files: its columns, the verdicts in it by name, and how a row is read.

    Images in rows for which `group` gives the same are compared with each other; without it those in one row are.
    """

    columns: tuple[str, ...]
    verdicts: Mapping[str, Verdict]
    judged: Callable[[Row], Judged]
    optional: tuple[str, ...] = ()
    group: "Group | None" = None

    def read(self, row: Row, wanted: Sequence[str]) -> Judged:
        """What the row says, with the scores of the verdicts `wanted`; rejects a row that does not say it."""
        judged = self.judged(row)
        scores = {name: self.verdicts[name].scores(row) for name in wanted}
        for name, given in scores.items():
            if len(given) != len(judged.images):
                raise Rejected(Reason.MISSING_VALUE, f"{name} has {len(given)} values for {len(judged.images)} images")
        return replace(judged, scores=scores)

    def needs(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The columns without which the verdicts `wanted` cannot be read."""
        columns = [*self.columns, *(column for name in wanted for column in self.verdicts[name].columns)]
        return tuple(dict.fromkeys(columns))


@dataclass(frozen=True, kw_only=True)
class Group:
    """What of a row says which others its images are compared with, and the columns that this is read from."""

    columns: tuple[str, ...]
    of: Callable[[Row], str]


@dataclass(frozen=True, kw_only=True)
class Format:
    """A published set's schema: its layouts, which verdict becomes which dimension, and the verdict on the whole.

    `name` also stands for the voters whom the set does not name, and begins the ids that are made here.
    """

    name: str
    layouts: tuple[Layout, ...]
    dimensions: Mapping[Dimension, str]
    overall: str

    @property
    def verdicts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for layout in self.layouts for name in layout.verdicts))

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a column can have here, in order."""
        return tuple(
            dict.fromkeys(
                column
                for layout in self.layouts
                for column in (*layout.needs(tuple(layout.verdicts)), *layout.optional)
            )
        )


def layout_of(
    form: Format, dimensions: Mapping[Dimension, str], columns: Mapping[str, str], found: Sequence[str], file: object
) -> tuple[int, dict[Dimension, str]]:
    """Which layout of the format a file has, by its columns `found`, and the verdict of each dimension it speaks of.

    `columns` maps a name of the format to the file's own. Verdicts that no layout has with the others are left to those
    that have them: a file of pairs may lack the ratings. Raises ValueError that lists the columns found and expected.
    """
    renamed = [columns[name] for name in columns if columns[name] not in found]
    if renamed:
        raise ValueError(f"{file} has no column {', '.join(renamed)}, which --map names; it has {_list(found)}")
    expected = []
    for index, layout in enumerate(form.layouts):
        said = {dimension: name for dimension, name in dimensions.items() if name in layout.verdicts}
        needed = [columns.get(name, name) for name in layout.needs(tuple(said.values()))]
        if said and all(name in found for name in needed):
            return index, said
        if said:
            missing = [name for name in needed if name not in found]
            expected.append(_list(needed) if missing == needed else f"{_list(needed)} (missing: {_list(missing)})")
    raise ValueError(
        f"{file} has the columns {_list(found)}; {form.name} expects {', or '.join(expected)}: "
        "name columns that are called otherwise with --map NAME=COLUMN, or ask for fewer verdicts with --dimension"
    )


def dimensions_asked(form: Format, asked: Mapping[Dimension, str | None], task: Task) -> dict[Dimension, str]:
    """Dimension -> verdict as asked for (None: the verdict on the whole), the format's own if nothing was asked for.

    Raises ValueError for a dimension that the task does not have, and for an unknown verdict.
    """
    chosen = {dimension: name or form.overall for dimension, name in asked.items()} or dict(form.dimensions)
    for dimension, name in chosen.items():
        if dimension not in DIMENSIONS[task]:
            raise ValueError(
                f"task {task} is not judged by {dimension}: say with --dimension which of "
                f"{', '.join(DIMENSIONS[task])} {form.name} speaks of"
            )
        if name not in form.verdicts:
            raise ValueError(f"{form.name} has no verdict {name!r}; its verdicts are {', '.join(form.verdicts)}")
    return chosen


def higher(*columns: str) -> Verdict:
    """The number, or list of them, in each column for a row's images; the higher the better."""
    return Verdict(columns=columns, scores=lambda row: tuple(score for name in columns for score in numbers(row, name)))


def lower(*columns: str) -> Verdict:
    """The rank, or list of them, in each column for a row's images; 1 is the best."""
    return Verdict(columns=columns, scores=lambda row: tuple(-rank for name in columns for rank in numbers(row, name)))


def first_wins(*columns: str) -> Verdict:
    """A row whose first image is the better of two."""
    return Verdict(columns=columns, scores=lambda row: (1.0, 0.0))


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "none"
