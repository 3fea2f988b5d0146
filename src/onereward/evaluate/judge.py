"""The stage `evaluate judge`: held-out preferences -> a judge's answers in both orders (Table 1, Table 4)."""

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache, partial

from onereward.metrics.answers import answer_preferences
from onereward.metrics.records import Answer
from onereward.models.device import default_device
from onereward.models.fingerprint import fingerprint_of
from onereward.models.load_judge import JudgeQuantize, load_qwen_vl
from onereward.models.qwen_vl import QwenVLJudge
from onereward.query import Variant
from onereward.store.shards import Folder, Manifest, fingerprint, read_manifest, read_shard, run_stage
from onereward.terms import Preference


@dataclass(frozen=True, kw_only=True)
class AnswerConfig:
    """How the judge is asked, and the name of its rows in the tables."""

    variant: Variant
    label: str


def evaluate_judge(
    preferences: Folder,
    output: Folder,
    judge: str,
    variant: Variant | None,
    label: str,
    *,
    batch: int = 32,
    quantize: JudgeQuantize | None = None,
    executor: Executor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Manifest:
    """Write the answer of `judge` (what `load_qwen_vl` takes) to every preference, asked as `variant`.

    `batch` preferences are asked about at once; `quantize` keeps the judge in 8 or 4 bits, which are other answers.
    Without a `variant` it is asked as it was in its training. `label` is what tables call it: `untuned`, a variant's
    name or any other. `metrics.judge_table` makes the tables. Raises ValueError for preferences that are missing,
    changed or corrupt, and if no judge lies there.
    """
    manifest = read_manifest(preferences)
    asked = variant or variant_of(judge, quantize)
    return run_stage(
        output,
        kind=Answer,
        stage="evaluate judge",
        config=AnswerConfig(variant=asked, label=label),
        inputs={"preferences": fingerprint(preferences), "judge": fingerprint_of(_judge(judge, quantize))},
        shard_count=len(manifest.shards),
        make_shard=partial(_answer_shard, preferences, manifest, judge, asked, label, batch, quantize),
        progress=progress,
        executor=executor,
    )


def variant_of(judge: str, quantize: JudgeQuantize | None = None) -> Variant:
    """The way of asking on which a judge was trained, as its contract says."""
    return _judge(judge, quantize).contract.variant


def _answer_shard(
    preferences: Folder,
    manifest: Manifest,
    judge: str,
    variant: Variant,
    label: str,
    batch: int,
    quantize: JudgeQuantize | None,
    index: int,
) -> list[Answer]:
    shard = read_shard(preferences, Preference, manifest, index)
    return answer_preferences(_judge(judge, quantize), shard, variant, label, batch=batch)


@lru_cache(maxsize=1)
def _judge(source: str, quantize: JudgeQuantize | None) -> QwenVLJudge:
    """One judge a process: a worker keeps it over its shards, and lets it go when the next row's comes."""
    return load_qwen_vl(source, device=default_device(), quantize=quantize)
