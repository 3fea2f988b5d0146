"""The stage `score`: pairs of images -> a record for each pair and dimension, or the reason why there is none.

A pair whose pictures cannot be read, or about which the judge has no answer, is in `failed.jsonl` and in no shard.
"""

import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import Image

from onereward.edit.judge import ImageJudge, Pair, Scores
from onereward.edit.pictures import read_picture
from onereward.score.pairs import Row, Rows, Table, file_of
from onereward.store.files import write_atomically
from onereward.store.shards import read_records, run_stage, shard_ranges
from onereward.terms import Dimension, Task

FAILED = "failed.jsonl"

SHARD = 64
"""Pairs of a shard: what a stop costs at most."""


@dataclass(frozen=True, kw_only=True)
class PairScore:
    """A judge's score of a pair in one dimension, as `edit.judge.Score` says; `judge` is its fingerprint."""

    pair_id: str
    task: Task
    dimension: Dimension
    probability: float
    log_odds_forward: float
    log_odds_backward: float
    outside_mass: float
    judge: str


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """How many pairs are asked about at once, which moves last bits."""

    batch: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a folder of scores holds: `pairs` were asked about, `failed` of them have no score."""

    pairs: int
    failed: int
    scores: int
    judge: str


@dataclass(frozen=True, kw_only=True)
class _Failure:
    id: str
    row: int
    reason: str


def score_pairs(
    table: Table,
    output: Path,
    judge: ImageJudge,
    *,
    batch: int = 16,
    progress: Callable[[int], None] | None = None,
) -> Summary:
    """Score every pair of `table` into `output`, `batch` at a time; a finished folder is left alone.

    `progress` is told how many more shards of `SHARD` pairs are done. Raises ValueError if `output` holds other scores.
    """
    if batch < 1:
        raise ValueError(f"got a batch of {batch}, expected 1 or more")
    rows, places = Rows(table), shard_ranges(table.pairs, SHARD)
    manifest = run_stage(
        output,
        kind=PairScore,
        stage="score",
        config=ScoreConfig(batch=batch),
        inputs={"pairs": table.sha256, "judge": judge.fingerprint},
        shard_count=len(places),
        make_shard=lambda index: _score(judge, rows.take(places[index]), batch),
        progress=progress,
    )
    failed = output / FAILED
    if not failed.exists():
        failures = _failures(judge, Rows(table), places, read_records(output, PairScore))
        write_atomically(failed, "".join(f"{json.dumps(asdict(failure))}\n" for failure in failures).encode())
    return Summary(
        pairs=table.pairs,
        failed=len(failed.read_bytes().splitlines()),
        scores=manifest.rows,
        judge=judge.fingerprint,
    )


def _score(judge: ImageJudge, rows: Sequence[Row], batch: int) -> list[PairScore]:
    return [
        PairScore(pair_id=row.id, task=row.task, dimension=dimension, judge=judge.fingerprint, **asdict(score))
        for start in range(0, len(rows), batch)
        for row, outcome in _outcomes(judge, rows[start : start + batch])
        if not isinstance(outcome, ValueError)
        for dimension, score in outcome.items()
    ]


def _failures(
    judge: ImageJudge, rows: Rows, places: Sequence[range], scores: Iterable[PairScore]
) -> Iterator[_Failure]:
    """Pairs without a score, asked again for the reason: shards keep none, and may be of a run that was stopped."""
    scored = {score.pair_id for score in scores}
    for some in places:
        for row in rows.take(some):
            if row.id not in scored:
                [(_, outcome)] = _outcomes(judge, [row])
                reason = str(outcome) if isinstance(outcome, ValueError) else "it failed once, though not a second time"
                yield _Failure(id=row.id, row=row.number, reason=reason)


def _outcomes(judge: ImageJudge, rows: Sequence[Row]) -> Iterator[tuple[Row, Scores | ValueError]]:
    """The scores of each pair, all asked at once, or the reason why it has none; other errors are raised."""
    pairs = [_pair(judge, row) for row in rows]
    answers = iter(judge.score_each([pair for pair in pairs if isinstance(pair, Pair)]))
    for row, pair in zip(rows, pairs, strict=True):
        outcome = next(answers) if isinstance(pair, Pair) else pair
        if isinstance(outcome, Exception) and not isinstance(outcome, ValueError):
            raise outcome
        yield row, outcome


def _pair(judge: ImageJudge, row: Row) -> Pair | ValueError:
    try:
        first, second = _image(row.first, "the first image"), _image(row.second, "the second image")
        return judge.pair(first, second, row.task, row.prompt, row.dimensions)
    except ValueError as error:
        return error


def _image(picture: Path | bytes, name: str) -> Image.Image:
    return read_picture(io.BytesIO(file_of(picture, name)), name)
