"""Rows of edits from what people have: JSONL, CSV, Parquet, a folder of pictures with masks, a folder of triplets.

Every picture is read once before any work, so that a wrong row is met at once; none is kept. Pictures that lie in the
rows themselves become files (`unpack_pictures`), which are read when they are due and which recipes can name.
"""

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from onereward.edit.jobs import EditJob
from onereward.edit.pictures import FORMATS
from onereward.store.files import write_atomically
from onereward.store.shards import MANIFEST, read_records
from onereward.store.tables import TABLES, held_file, read_table, wrong_rows
from onereward.terms import Triplet

logger = logging.getLogger(__name__)

_MASKS = (".mask", "_mask")
_SOURCES = ("image", "mask")
_WHERE = ("mask", "left", "right", "top", "bottom", "ratio", "size")
_KINDS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif"}
_MOST_IMAGES = 10_000
_LONGEST_NAME = 200  # bytes; file systems take 255, and an index and a suffix follow


@dataclass(frozen=True, kw_only=True)
class Row:
    """A job of a batch: `name` is the stem of its files, `images` how many to make, by seeds from the job's own on.

    `size` is the edited picture's width and height, `hole` the box of its mask.
    """

    name: str
    job: EditJob
    images: int
    size: tuple[int, int]
    hole: tuple[int, int, int, int]


def read_rows(
    source: Path, defaults: Mapping[str, Any], pictures: Path, *, images: int = 1, skip_bad: bool = False
) -> list[Row]:
    """The rows of a jobs file or a folder, in order, all of them checked; `defaults` are fields that a row may lack.

    A row's paths count from the file's folder. It may have, beside the fields of an EditJob, `name` and `images`.
    A picture that the row itself holds is named as the file in `pictures` that `unpack_pictures` will write.
    Raises FileNotFoundError if there is nothing at `source` and ValueError that lists the rows which are wrong; with
    `skip_bad` they are left out and logged.
    """
    if not source.exists():
        raise FileNotFoundError(2, "no such file or folder", str(source))
    reader = _RowReader(
        folder=source if source.is_dir() else source.parent,
        defaults={name: str(Path(value).resolve()) if name == "mask" else value for name, value in defaults.items()},
        pictures=pictures,
        images=images,
    )
    rows: dict[int, Row] = {}
    wrong: list[str] = []
    for number, values in enumerate(_values_in(source), start=1):
        try:
            if values is not None:
                rows[number] = reader.row(values, number)
        except (ValueError, OSError) as error:
            wrong.append(f"row {number}: {_text_of(error)}")
    if wrong:
        _report(wrong, source, skip_bad=skip_bad)
    if not rows:
        raise ValueError(f"{source} holds no jobs: expected rows, or pictures with a mask NAME.mask.png beside each")
    return _with_own_names(rows)


def unpack_pictures(source: Path, pictures: Path, rows: Sequence[Row]) -> None:
    """Write to `pictures` what the rows of `source` hold themselves, unless it is there already."""
    named = {path for row in rows for path in sources_of(row)}
    missing = {path for path in named if path.parent == pictures and not path.exists()}
    for values in _values_in(source) if missing else ():
        for data in _held(values).values() if isinstance(values, Mapping) else ():
            file = pictures / _file_name(data)
            if file in missing:
                write_atomically(file, data)
                missing.remove(file)


def stems_of(row: Row) -> list[str]:
    """The names of a row's images without their suffix: its own, or NAME-0, NAME-1, ... of several."""
    return [row.name] if row.images == 1 else [f"{row.name}-{index}" for index in range(row.images)]


def sources_of(row: Row) -> list[Path]:
    """The files that are read for a row's images."""
    return [Path(path) for path in (row.job.image, row.job.mask) if path is not None and not path.startswith("data:")]


@dataclass(frozen=True, kw_only=True)
class _RowReader:
    folder: Path
    defaults: Mapping[str, Any]
    pictures: Path
    images: int

    def row(self, values: object, number: int) -> Row:
        """Raises ValueError or OSError for a row that cannot be made."""
        if isinstance(values, ValueError):
            raise values
        if not isinstance(values, Mapping):
            raise ValueError(f"got {values!r}, expected an object with an image and a task")
        given = {name: value for name, value in values.items() if value is not None}
        name, images = given.pop("name", None), _count(given.pop("images", self.images))
        says_where = any(field in given for field in _WHERE)
        lacking = {field: value for field, value in self.defaults.items() if not (says_where and field in _WHERE)}
        job = EditJob.of({**lacking, **given}).from_folder(self.folder)
        replace(job, seed=job.seed + images - 1)  # refuses a last seed that is too large
        request = job.request()
        hole = request.mask.getbbox()
        assert hole is not None  # an empty mask is refused
        held = _held(given)
        in_files: dict[str, Any] = {field: str(self.pictures / _file_name(data)) for field, data in held.items()}
        if name is None:
            name = f"row-{number}" if "image" in held or job.image.startswith("data:") else Path(job.image).stem
        return Row(
            name=_safe(str(name), number),
            job=replace(job, **in_files),
            images=images,
            size=request.image.size,
            hole=hole,
        )


def _values_in(source: Path) -> Iterator[object]:
    """What each row holds; None for no row, a ValueError for one that cannot be read."""
    if source.is_dir():
        yield from _in_triplets(source) if (source / MANIFEST).exists() else _in_folder(source)
        return
    if source.suffix.lower() not in TABLES:
        raise ValueError(f"{source} is no jobs file: expected a folder or a name ending in {', '.join(TABLES)}")
    yield from read_table(source)


def _in_triplets(folder: Path) -> Iterator[Mapping[str, Any]]:
    for triplet in read_records(folder, Triplet):
        values = asdict(triplet)
        yield {"name": values.pop("id"), **values}


def _in_folder(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Each picture with its mask, if it has one, and its prompt from NAME.txt, if there is one."""
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in FORMATS)
    masks = {path.stem: path for path in pictures if path.stem.endswith(_MASKS)}
    for path in pictures:
        if path.stem not in masks:
            mask = next((masks[path.stem + end] for end in _MASKS if path.stem + end in masks), None)
            prompt = path.with_suffix(".txt")
            yield {
                "image": path.name,
                "mask": mask.name if mask else None,
                "prompt": prompt.read_text(encoding="utf-8").strip() if prompt.exists() else None,
            }


def _held(values: Mapping[str, Any]) -> dict[str, bytes]:
    """The picture files in a row itself: cells of bytes, or of bytes and path as `datasets` keeps images."""
    files = {field: held_file(values.get(field)) for field in _SOURCES}
    return {field: file for field, file in files.items() if file is not None}


def _file_name(data: bytes) -> str:
    """By content, so that a picture of several rows is one file."""
    kind = next((suffix for start, suffix in _KINDS.items() if data.startswith(start)), "")
    return f"{hashlib.sha256(data).hexdigest()[:24]}{kind}"


def _count(value: object) -> int:
    text = str(value)
    if isinstance(value, float) and value.is_integer():  # what a table makes of whole numbers beside empty cells
        text = str(int(value))
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_IMAGES:
        raise ValueError(f"got images {value!r}, expected a whole number from 1 to {_MOST_IMAGES}")
    return int(text)


def _safe(name: str, number: int) -> str:
    """The name with what a file's name should not have replaced; ValueError if it is too long."""
    safe = re.sub(r"[^\w.-]+", "-", name).strip(".-") or f"row-{number}"
    if len(safe.encode()) > _LONGEST_NAME:
        raise ValueError(f"the name {safe[:20]}... is too long: give the row a `name` of up to {_LONGEST_NAME} bytes")
    return safe


def _text_of(error: ValueError | OSError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {str(error.strerror).lower()}"
    return str(error)


def _report(wrong: Sequence[str], source: Path, *, skip_bad: bool) -> None:
    """Raises ValueError that shows the first of the wrong rows, or logs it."""
    message = wrong_rows(wrong, source)
    if not skip_bad:
        raise ValueError(message)
    logger.warning("%s; they are left out", message)


def _with_own_names(rows: Mapping[int, Row]) -> list[Row]:
    """Names that are there twice get their row's number; raises ValueError if that makes no difference."""
    often = Counter(row.name.casefold() for row in rows.values())
    named = [
        row if often[row.name.casefold()] == 1 else replace(row, name=f"{row.name}-row{number}")
        for number, row in rows.items()
    ]
    # Some file systems do not tell a from A.
    stems = Counter(stem.casefold() for row in named for stem in (*stems_of(row), f"{row.name}-grid"))
    twice = [stem for stem, count in stems.items() if count > 1]
    if twice:
        raise ValueError(f"several rows would write {twice[0]}.png: give them other names")
    return named
