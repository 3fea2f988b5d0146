"""The stage `data import`: people's tables -> preferences, after the check of every row."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from onereward.readers.cells import Rejected
from onereward.readers.check import STAGE, Checked, RowCheck, checks_of, content_of, pairs_in, parts_of
from onereward.readers.inputs import Inputs, Said, Source, joined
from onereward.store.shards import Folder, Manifest, run_stage
from onereward.terms import Preference


def shards_of(inputs: Inputs, checked: Checked) -> list[range]:
    """The comparisons of each shard of preferences: as few as have `shard_size` of them."""
    shards, first, count = [], 0, 0
    for comparison, pairs in enumerate(checked.pairs):
        count += pairs
        if count >= inputs.config.shard_size:
            shards.append(range(first, comparison + 1))
            first, count = comparison + 1, 0
    return [*shards, range(first, len(checked.pairs))] if count else shards


def write_preferences(
    inputs: Inputs, checked: Checked, output: Folder, progress: Callable[[int], None] | None = None
) -> Manifest:
    """Write the preferences of all rows that passed the check; `progress` is told how many more shards are done.

    Their `winner_index` and `loser_index` name images by content, so that an image of a triplet has one in all rows.
    Raises ValueError for a row that is no longer what was checked.
    """
    shards = shards_of(inputs, checked)
    parts = parts_of(inputs)

    @lru_cache(maxsize=1)
    def checks_in(part: int) -> dict[int, list[RowCheck]]:
        checks = iter(checks_of(checked, part))
        return {comparison: [next(checks) for _ in inputs.rows_of(comparison)] for comparison in parts[part]}

    def make_shard(index: int) -> list[Preference]:
        return [
            preference
            for comparison in shards[index]
            if checked.pairs[comparison]
            for preference in _preferences(inputs, comparison, checks_in(comparison // len(parts[0]))[comparison])
        ]

    return run_stage(
        output,
        kind=Preference,
        stage=STAGE,
        config=inputs.config,
        inputs={**{source.name: source.sha256 for source in inputs.sources}, "rows": checked.sha256},
        shard_count=len(shards),
        make_shard=make_shard,
        progress=progress,
    )


def _preferences(inputs: Inputs, comparison: int, checks: Sequence[RowCheck]) -> Iterator[Preference]:
    passed = [
        _as_checked(inputs, source, row, check)
        for (source, row), check in zip(inputs.rows_of(comparison), checks, strict=True)
        if not check.reason
    ]
    whole = joined(passed)
    indices = [int(name[:8], 16) for name in whole.names]
    for pair in pairs_in(passed, inputs.config).kept:
        yield Preference(
            triplet_id=whole.triplet_id,
            task=whole.task,
            dimension=pair.dimension,
            prompt=whole.prompt,
            winner=whole.images[pair.winner],
            loser=whole.images[pair.loser],
            winner_index=indices[pair.winner],
            loser_index=indices[pair.loser],
            voter=whole.voter,
            kind=inputs.config.kind,
            weight=whole.weight,
            source=whole.source,
            tie=pair.tie,
        )


def _as_checked(inputs: Inputs, source: Source, row: int, check: RowCheck) -> Said:
    try:
        said = inputs.read(source, row)
        if content_of(said) == check.images:
            return said
        change = "an image of it is another one now"
    except Rejected as rejected:
        change = f"{rejected.reason}: {rejected.detail}"
    raise ValueError(
        f"row {check.row} of {check.file} has changed since it was checked ({change}): "
        "bring back what was there, or delete the output and import again"
    )
