"""Votes as a file of their own, without pictures: JSON lines or Parquet, by the file's ending."""

import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pyarrow
import pyarrow.parquet

from onereward.store.files import write_atomically
from onereward.terms import Dimension, Vote, VoterKind, dimension_named

_NEEDED = "triplet_id", "dimension", "best", "worst"


def write_votes(path: Path, votes: Sequence[Vote]) -> None:
    """One row a vote; ValueError for an ending that is neither .jsonl nor .parquet."""
    rows = [asdict(vote) for vote in votes]
    if path.suffix == ".jsonl":
        data = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    elif path.suffix == ".parquet":
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
        data = buffer.getvalue()
    else:
        raise ValueError(f"got {path}, expected a name that ends in .jsonl or .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)


def read_votes(path: Path) -> list[Vote]:
    """The votes of a .jsonl file; only triplet, dimension, best and worst are needed. ValueError names a bad line."""
    votes = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # not splitlines: strings may hold other ends of lines
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            votes.append(_vote(row))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: {error}; expected an object with {', '.join(_NEEDED)}") from error
    return votes


def _vote(row: dict[str, object]) -> Vote:
    triplet, dimension, best, worst = (row[name] for name in _NEEDED)
    if not isinstance(triplet, str) or not all(end is None or type(end) is int for end in (best, worst)):
        raise ValueError(f"got triplet_id {triplet!r}, best {best!r}, worst {worst!r}")
    return Vote(
        triplet_id=triplet,
        dimension=Dimension(dimension_named(str(dimension))),
        best=best,  # type: ignore[arg-type]
        worst=worst,  # type: ignore[arg-type]
        voter=str(row.get("voter", "gold")),
        kind=VoterKind(str(row.get("kind", VoterKind.PERSON))),
    )
