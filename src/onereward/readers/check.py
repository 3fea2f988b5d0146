"""The first pass of an import: every row is read and every image decoded, so that faults are known before they count.

What became of each row is records of a stage of its own, in a hidden folder beside the preferences.
"""

import hashlib
import json
import os
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, replace
from functools import partial

import fsspec

from onereward.readers.cells import Reason, Rejected, require_image, short_hash
from onereward.readers.inputs import ImportConfig, Inputs, Said, joined
from onereward.readers.pairs import Pairs, pairs_of
from onereward.store.shards import MANIFEST, Folder, Manifest, read_manifest, read_shard, run_stage, shard_ranges

STAGE = "data import"
REJECTED = "rejected.jsonl"
_PART = 256  # comparisons
_FOLDER = ".check"  # hidden, so that whoever takes all shards in the folder takes the preferences alone


@dataclass(frozen=True, kw_only=True)
class RowCheck:
    """What became of a row: its `reason` (and `detail`) if it was rejected, and its images by content.

    A comparison's last row has its counts: the pairs that become preferences, those left out as ties and as one image
    twice. `row` is counted from 1.
    """

    file: str
    row: int
    reason: str
    detail: str
    images: str
    pairs: int = 0
    ties: int = 0
    identical: int = 0


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """What decides the check: the import's config, and where its images lie."""

    config: ImportConfig
    images: str | None


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A check: its folder, how many pairs each comparison has, and what was left out.

    `rejected` counts the rows by reason, in the order of the reasons.
    """

    folder: Folder
    manifest: Manifest
    pairs: Sequence[int]
    rejected: Mapping[Reason, int]
    ties: int
    identical: int
    sha256: str

    @property
    def rows(self) -> int:
        return self.manifest.rows

    @property
    def corrupt(self) -> int:
        return sum(count for reason, count in self.rejected.items() if reason is not Reason.UNLABELLED)


def parts_of(inputs: Inputs) -> list[range]:
    """The comparisons of each shard of a check."""
    return shard_ranges(len(inputs), _PART)


def check_inputs(
    inputs: Inputs,
    output: Folder,
    *,
    max_rejected: float = 0.05,
    executor: Executor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Checked:
    """Read and decode everything, and list the corrupt rows in `output`/rejected.jsonl.

    `progress` is told how many more of `parts_of` are done. Raises ValueError if a larger share of the rows than
    `max_rejected` is corrupt (they have been listed then), and if nothing is left.
    """
    if not 0 <= max_rejected <= 1:
        raise ValueError(f"got --max-rejected {max_rejected}, expected a share from 0 to 1")
    _require_own(output)
    folder = f"{os.fspath(output).rstrip('/')}/{_FOLDER}"
    parts = parts_of(inputs)
    manifest = run_stage(
        folder,
        kind=RowCheck,
        stage="check",
        config=CheckConfig(config=inputs.config, images=None if inputs.images is None else str(inputs.images)),
        inputs={source.name: source.sha256 for source in inputs.sources},
        shard_count=len(parts),
        make_shard=partial(_check_part, inputs, parts),
        progress=progress,
        executor=executor,
    )
    checked = _summary(folder, manifest, inputs, output)
    try:
        _require_enough(checked, max_rejected, output)
    except ValueError:
        _remove(folder)  # so that a run with the right images does not meet the wrong ones' check
        raise
    return checked


def checks_of(checked: Checked, part: int) -> list[RowCheck]:
    """The checks of one of `parts_of`, in the order of its comparisons' rows."""
    return read_shard(checked.folder, RowCheck, checked.manifest, part)


def content_of(said: Said) -> str:
    """What `RowCheck.images` has for a row."""
    return short_hash(*said.names)


def pairs_in(said: Sequence[Said], config: ImportConfig) -> Pairs:
    """The pairs of a comparison's rows, in the order of their images."""
    if not said:
        return Pairs(kept=(), ties=0, identical=0)
    whole = joined(said)
    return pairs_of(whole.scores, whole.names, pairing=config.pairing, ties=config.ties)


def _require_own(output: Folder) -> None:
    fs, root = fsspec.core.url_to_fs(os.fspath(output))
    if fs.exists(f"{root}/{MANIFEST}") and (stage := read_manifest(output).plan.stage) != STAGE:
        raise ValueError(f"{output} holds the work of stage {stage}: choose another --output")


def _check_part(inputs: Inputs, parts: Sequence[range], index: int) -> list[RowCheck]:
    return [check for comparison in parts[index] for check in _check_comparison(inputs, comparison)]


def _check_comparison(inputs: Inputs, comparison: int) -> list[RowCheck]:
    checks: list[RowCheck] = []
    good: list[Said] = []
    for source, row in inputs.rows_of(comparison):
        check = RowCheck(file=source.name, row=row + 1, reason="", detail="", images="")
        try:
            said = inputs.read(source, row)
            for place, image in enumerate(said.images, start=1):
                require_image(image, f"image {place}")
        except Rejected as rejected:
            check = replace(check, reason=rejected.reason.value, detail=rejected.detail)
        else:
            check = replace(check, images=content_of(said))
            good.append(said)
        checks.append(check)
    pairs = pairs_in(good, inputs.config)
    checks[-1] = replace(checks[-1], pairs=len(pairs.kept), ties=pairs.ties, identical=pairs.identical)
    return checks


def _summary(folder: Folder, manifest: Manifest, inputs: Inputs, output: Folder) -> Checked:
    """Count what the check found, and list the corrupt rows; one shard in memory at a time."""
    pairs, digest = array("q"), hashlib.sha256()
    reasons: Counter[Reason] = Counter()
    ties = identical = 0
    lines = []
    for part, comparisons in enumerate(parts_of(inputs)):
        checks = iter(read_shard(folder, RowCheck, manifest, part))
        for comparison in comparisons:
            rows = [next(checks) for _ in inputs.rows_of(comparison)]
            pairs.append(rows[-1].pairs)
            ties, identical = ties + rows[-1].ties, identical + rows[-1].identical
            for row in rows:
                digest.update(f"{json.dumps(asdict(row), sort_keys=True)}\n".encode())
                if row.reason:
                    reasons[Reason(row.reason)] += 1
                if row.reason and row.reason != Reason.UNLABELLED:
                    lines.append(_line(row))
    _write(output, REJECTED, "".join(lines))
    return Checked(
        folder=folder,
        manifest=manifest,
        pairs=pairs,
        rejected={reason: reasons[reason] for reason in Reason if reasons[reason]},
        ties=ties,
        identical=identical,
        sha256=digest.hexdigest(),
    )


def _line(check: RowCheck) -> str:
    values = {"file": check.file, "row": check.row, "reason": check.reason, "detail": check.detail}
    return json.dumps(values, ensure_ascii=False) + "\n"


def _require_enough(checked: Checked, max_rejected: float, output: Folder) -> None:
    reasons = ", ".join(f"{count} {reason}" for reason, count in checked.rejected.items())
    if checked.corrupt > max_rejected * checked.rows:
        raise ValueError(
            f"{checked.corrupt} of {checked.rows} rows ({checked.corrupt / checked.rows:.1%}) are corrupt, more than "
            f"--max-rejected {max_rejected:g}: {reasons}; {output}/{REJECTED} lists them: mend the input (or name the "
            "images' folder with --images), or allow more"
        )
    if not sum(checked.pairs):
        raise ValueError(
            f"no preference in {checked.rows} rows: {reasons or 'none is corrupt'}, {checked.ties} ties left out "
            f"(--ties keeps them), {checked.identical} pairs of one image"
        )


def _write(output: Folder, name: str, content: str) -> None:
    fs, root = fsspec.core.url_to_fs(os.fspath(output))
    fs.makedirs(root, exist_ok=True)
    fs.pipe_file(f"{root}/{name}", content.encode())


def _remove(folder: Folder) -> None:
    fs, root = fsspec.core.url_to_fs(os.fspath(folder))
    fs.rm(root, recursive=True)
