"""The files of one import: which rows are compared with each other, and what they say of which images."""

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path

from onereward.readers.cells import Reason, Rejected, Row, image_file, short_hash
from onereward.readers.files import Cursor, InputFile, open_input
from onereward.readers.formats import FORMATS
from onereward.readers.layouts import Format, Judged, Layout, dimensions_asked, layout_of
from onereward.readers.pairs import Pairing
from onereward.terms import Dimension, Task, VoterKind, dimensions_of


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """How rows become preferences.

    `format` is a name of FORMATS; `task` is what the images were made for. `dimensions` are those to import, each with
    the verdict that becomes it (None: the one on the whole); the format's own if empty. `columns` maps a name of the
    format to the file's own. With `ties`, equal scores become ties. A shard has `shard_size` preferences, or more where
    the last of its comparisons has them.
    """

    format: str
    task: Task = Task.FILL
    dimensions: Mapping[Dimension, str | None] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    pairing: Pairing = Pairing.ALL
    ties: bool = False
    kind: VoterKind = VoterKind.PERSON
    shard_size: int = 64

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"unknown format {self.format!r}; the formats are {', '.join(FORMATS)}")
        unknown = [name for name in self.columns if name not in self.form.names]
        if unknown:
            raise ValueError(
                f"got --map {unknown[0]}={self.columns[unknown[0]]}, expected a name of the format {self.format}: "
                f"{', '.join(self.form.names)}"
            )
        dimensions_asked(self.form, self.dimensions, self.task)

    @property
    def form(self) -> Format:
        return FORMATS[self.format]


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one voter said of some images: their files, and `names`, the SHA-256 of each.

    `scores` has one number an image, the higher the better.
    """

    triplet_id: str
    source: str
    task: Task
    prompt: str
    voter: str
    weight: float
    scores: Mapping[Dimension, tuple[float, ...]]
    images: tuple[bytes, ...]
    names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file, by content: the layout of its rows, and the verdict of each dimension that they speak of.

    Comparison i is of the rows `order[starts[i]:starts[i + 1]]`, counted from 0.
    """

    name: str
    path: Path
    sha256: str
    columns: tuple[str, ...]
    layout: int
    verdicts: Mapping[Dimension, str]
    order: Sequence[int]
    starts: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All comparisons of an import, numbered through its files; paths in rows begin at `images`, or at their file."""

    config: ImportConfig
    images: Path | None
    sources: tuple[Source, ...]

    @cached_property
    def _firsts(self) -> list[int]:
        """The number of each file's first comparison, and that of all."""
        return list(accumulate((len(source.starts) - 1 for source in self.sources), initial=0))

    def __len__(self) -> int:
        return self._firsts[-1]

    def rows_of(self, comparison: int) -> list[tuple[Source, int]]:
        """The rows of a comparison: which file, and which of its rows, counted from 0."""
        index = bisect_right(self._firsts, comparison) - 1
        source, place = self.sources[index], comparison - self._firsts[index]
        return [(source, row) for row in source.order[source.starts[place] : source.starts[place + 1]]]

    def read(self, source: Source, row: int) -> Said:
        """What a row says, its images not decoded; raises Rejected if it says nothing."""
        layout = self.config.form.layouts[source.layout]
        wanted = tuple(source.verdicts.values())
        names = (*layout.needs(wanted), *layout.optional)
        found = _cursor(source.path, source.sha256, _columns_of(names, self.config, source.columns)).row(row)
        if isinstance(found, Rejected):
            raise found
        judged = layout.read(_renamed(found, names, self.config), wanted)
        return self._resolved(judged, source)

    def _resolved(self, judged: Judged, source: Source) -> Said:
        folder, form = self.images or source.path.parent, self.config.form
        verdicts = {judged.dimension: form.overall} if judged.dimension else source.verdicts
        task = judged.task or self.config.task
        for dimension in verdicts:
            if dimension not in dimensions_of(task, judged.prompt):
                raise Rejected(Reason.UNKNOWN_LABEL, f"{dimension}, with prompt {judged.prompt!r}, for task {task}")
        images = tuple(image_file(cell, folder) for cell in judged.images)
        name = judged.source
        if judged.source_image is not None:
            name = short_hash(image_file(judged.source_image, folder))
        content = (name, judged.prompt) if name or judged.prompt else sorted(images)
        return Said(
            triplet_id=judged.id or f"{form.name}-{short_hash(*content)}",
            source=name,
            task=task,
            prompt=judged.prompt,
            voter=judged.voter or form.name,
            weight=judged.weight,
            scores={dimension: judged.scores[verdict] for dimension, verdict in verdicts.items()},
            images=images,
            names=tuple(hashlib.sha256(image).hexdigest() for image in images),
        )


def open_inputs(
    files: Mapping[str, Path],
    config: ImportConfig,
    *,
    images: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Inputs:
    """Open the files that `input_files` names: each is hashed, and its rows are counted and grouped.

    `progress` is told how many more files are open. Raises FileNotFoundError, and ValueError for what is no table and
    for columns that the format does not have, listing those found and those expected.
    """
    if images is not None and not images.is_dir():
        raise FileNotFoundError(2, "no such folder", str(images))
    sources = []
    for name, path in files.items():
        sources.append(_open_source(name, path, config))
        if progress is not None:
            progress(1)
    return Inputs(config=config, images=images, sources=tuple(sources))


def joined(said: Sequence[Said]) -> Said:
    """The rows of one comparison as one row: all their images, and the rest as in the first."""
    first = said[0]
    scores = {dimension: tuple(score for row in said for score in row.scores[dimension]) for dimension in first.scores}
    return replace(
        first,
        scores=scores,
        images=tuple(image for row in said for image in row.images),
        names=tuple(name for row in said for name in row.names),
    )


def _open_source(name: str, path: Path, config: ImportConfig) -> Source:
    file = open_input(path)
    with path.open("rb") as opened:
        sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    dimensions = dimensions_asked(config.form, config.dimensions, config.task)
    layout, verdicts = layout_of(config.form, dimensions, config.columns, file.columns, path)
    order, starts = _comparisons(file, config.form.layouts[layout], config)
    return Source(
        name=name,
        path=path,
        sha256=sha256,
        columns=file.columns,
        layout=layout,
        verdicts=verdicts,
        order=order,
        starts=starts,
    )


def _comparisons(file: InputFile, layout: Layout, config: ImportConfig) -> tuple[Sequence[int], Sequence[int]]:
    """`order` and `starts` of a Source; the comparisons in the order of their first rows."""
    if layout.group is None:
        count = file.count()
        return range(count), range(count + 1)
    names = layout.group.columns
    groups: dict[str | int, array[int]] = {}
    for number, row in enumerate(file.rows(0, _columns_of(names, config, file.columns))):
        key: str | int = number  # a row that does not say its group is rejected when it is read
        if not isinstance(row, Rejected):
            with suppress(Rejected):
                key = layout.group.of(_renamed(row, names, config))
        groups.setdefault(key, array("q")).append(number)
    order = array("q", (number for numbers in groups.values() for number in numbers))
    return order, array("q", accumulate((len(numbers) for numbers in groups.values()), initial=0))


def _columns_of(names: Sequence[str], config: ImportConfig, found: Sequence[str]) -> tuple[str, ...]:
    """The file's own columns for these names of the format, as far as it has them."""
    wanted = (config.columns.get(name, name) for name in names)
    return tuple(dict.fromkeys(column for column in wanted if column in found))


def _renamed(row: Row, names: Sequence[str], config: ImportConfig) -> Row:
    return {name: row.get(config.columns.get(name, name)) for name in names}


@lru_cache(maxsize=1)
def _cursor(path: Path, sha256: str, columns: tuple[str, ...]) -> Cursor:
    """One open file a process; `sha256` tells apart files that lay at the same path."""
    return Cursor(open_input(path), columns)
