"""The stage `train-reward`: preferences in, a judge out, a run folder between (Sec. 4.3).

What happens at a step depends on (config, preferences, step) alone: what is drawn is keyed by the place in the global
batch, so that any number of processes does the same work, and a resumed run the work that it missed.

Shape legend: B preferences, H W pixels.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration

from onereward.augment import jittered, mirrored
from onereward.ema import frozen_copy, update_average
from onereward.metrics.answers import answer_preferences, places_by_size, stack_pairs
from onereward.models.attention import SDPA_FLOAT32
from onereward.models.device import default_device
from onereward.models.load_judge import load_qwen_vl, save_judge
from onereward.models.qwen_vl import QwenVLJudge
from onereward.query import Variant
from onereward.reward import reward_step
from onereward.runtime.checkpoint import Checkpoints
from onereward.runtime.checks import require
from onereward.runtime.mesh import Mesh, launch
from onereward.runtime.track import Log, track
from onereward.runtime.update import Optimizer, Updater
from onereward.seeds import numpy_generator
from onereward.store.rundir import RunDir
from onereward.store.shards import Folder, fingerprint, read_records
from onereward.terms import Preference, Task


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """All that decides what a judge learns from given preferences; a recipe states every value."""

    judge: str  # where training starts: `toy`, a folder or a Hub name
    variant: Variant  # what the queries tell (Table 1)
    seed: int
    steps: int
    batch: int  # preferences a step, over all processes
    optimizer: Optimizer
    learning_rate: float
    warm_up: int  # steps over which the rate rises at the start
    cool_down: float  # share of the steps over which it falls to 0 at the end; a larger --steps then begins a new fall
    weight_decay: float
    clip: float  # largest norm of the gradient
    decay: float  # of the moving average of the weights, which becomes the finished judge; 0 keeps the last weights
    mirror: bool  # half of the pairs left-right mirrored, except text's
    shift: int  # pixels by which a pair is moved about; 0 turns it off
    tone: float  # by which each image's gain and offset vary, in [-1, 1] units; 0 turns it off
    autocast: bool  # bfloat16 products on float32 weights
    validate_every: int
    checkpoint_every: int

    def __post_init__(self) -> None:
        require(self, at_least=1, fields=("steps", "batch", "validate_every", "checkpoint_every"))
        require(self, at_least=0, fields=("warm_up", "learning_rate", "weight_decay", "clip", "shift", "tone"))
        require(self, at_least=0, at_most=1, fields=("cool_down", "decay"))


@dataclass(frozen=True, kw_only=True)
class RewardRun(RewardConfig):
    """A config with the content hashes of what it was run on: what `config.json` records."""

    preferences: str
    validation: str | None


@dataclass(frozen=True, kw_only=True)
class StepFigures:
    """One step's line of the log: Eq. 3 and the share of right answers on the global batch, before the update."""

    loss: float
    accuracy: float
    grad_norm: float
    learning_rate: float


def train_reward(
    config: RewardConfig, preferences: Folder, output: Path, *, validation: Folder | None = None, processes: int = 1
) -> Path:
    """Trains a judge and returns its folder, `output`/final; run again it goes on, and a finished run is left alone.

    `processes` share each global batch (under torchrun its own processes do). `validation` holds preferences that only
    the log sees. Raises ValueError for missing or changed preferences and for a run folder of another config.
    """
    run = RunDir(output)
    recorded = RewardRun(
        **vars(config),
        preferences=fingerprint(preferences),
        validation=None if validation is None else fingerprint(validation),
    )
    run.require_continuable(recorded)
    if not run.is_finished(config.steps):
        launch(processes, _train, recorded, preferences, validation, run)
    return run.final


def _train(mesh: Mesh, config: RewardRun, preferences: Folder, validation: Folder | None, run: RunDir) -> None:
    records = list(read_records(preferences, Preference))
    if not records:
        raise ValueError(f"{preferences} holds no preference: collect votes first (onereward annotate)")
    held_out = [] if validation is None else list(read_records(validation, Preference))
    judge = load_qwen_vl(
        config.judge,
        trainable=True,
        dtype=torch.float32,
        device=default_device(),
        attention=SDPA_FLOAT32 if config.autocast else "sdpa",
    )
    with run.opened(config) if mesh.rank == 0 else nullcontext():
        _train_judge(mesh, config, judge, records, held_out, run)


def _train_judge(
    mesh: Mesh,
    config: RewardConfig,
    judge: QwenVLJudge,
    records: Sequence[Preference],
    held_out: Sequence[Preference],
    run: RunDir,
) -> None:
    average = frozen_copy(judge.model)
    updater = Updater(
        judge.model,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        clip=config.clip,
        optimizer=config.optimizer,
    )
    parts = {"model": judge.model, "average": average, "optimizer": updater}
    checkpoints, log = Checkpoints(run.checkpoints, keep=2), Log(run.log)
    done = checkpoints.load_last(parts)
    writes = mesh.rank == 0
    if writes:
        log.cut_after(done)
    with track(config.steps, "train-reward", done=done) if writes else nullcontext(_ignore) as advance:
        for step in range(done + 1, config.steps + 1):
            figures = _step(mesh, config, judge, updater, draw_batch(records, config, step), step)
            update_average(average, judge.model, min(config.decay, 1 - 1 / step))
            accuracy = {}
            if held_out and (step % config.validate_every == 0 or step == config.steps):
                accuracy = _validate(mesh, config, _averaged(judge, average), held_out)
            if writes:
                log.write(step, **asdict(figures), **accuracy)
                if step % config.checkpoint_every == 0 or step == config.steps:
                    checkpoints.save(step, parts)
            advance(note=f"loss {figures.loss:.3f}")
    if writes:
        run.write_final(config.steps, partial(save_judge, judge=judge, model=average))


def _ignore(count: int = 1, note: str = "") -> None:
    """The progress of a process that shows none."""


def draw_batch(records: Sequence[Preference], config: RewardConfig, step: int) -> list[Preference]:
    """The global batch of a step, counted from 1: epoch after epoch, each in an order of its own."""
    batch = []
    for position in range((step - 1) * config.batch, step * config.batch):
        epoch, place = divmod(position, len(records))
        batch.append(records[_order(config.seed, epoch, len(records))[place]])
    return batch


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    order: list[int] = numpy_generator(seed, "epoch", epoch).permutation(count).tolist()
    return order


def _step(
    mesh: Mesh, config: RewardConfig, judge: QwenVLJudge, updater: Updater, batch: Sequence[Preference], step: int
) -> StepFigures:
    """One update on the global batch, of which this process computes its share."""
    slots = mesh.share(len(batch))
    total_weight = sum(preference.weight for preference in batch)
    sums = torch.zeros(2)

    def losses() -> Iterator[Tensor]:
        for places in places_by_size([batch[slot] for slot in slots], len(batch)):
            share = [slots[place] for place in places]
            part = [batch[slot] for slot in share]
            winner_B3HW, loser_B3HW = _shown(part, config, [(config.seed, step, slot) for slot in share])
            with torch.autocast(judge.model.device.type, torch.bfloat16, enabled=config.autocast):
                judged = reward_step(judge, part, winner_B3HW, loser_B3HW, config.variant)
            loss = judged.loss * sum(preference.weight for preference in part) / total_weight
            sums.add_(torch.stack([loss.detach(), (judged.log_odds_B > 0).sum()]).cpu())
            yield loss
        mesh.sum_gradients(judge.model.parameters())  # the updater has taken the last part backward by now

    rate = learning_rate_at(step, config)
    updater.set_learning_rate(rate)
    updater(losses())
    loss, right = mesh.sum(sums).tolist()
    return StepFigures(loss=loss, accuracy=right / len(batch), grad_norm=updater.last.grad_norm, learning_rate=rate)


def learning_rate_at(step: int, config: RewardConfig) -> float:
    """The rate of a step, counted from 1: up in a line, then level, then down in a line towards 0."""
    rise = step / max(config.warm_up, 1)
    fall = (config.steps - step + 1) / max(config.cool_down * config.steps, 1)
    return config.learning_rate * min(1.0, rise, fall)


def _shown(
    preferences: Sequence[Preference], config: RewardConfig, keys: Sequence[tuple[int, int, int]]
) -> tuple[Tensor, Tensor]:
    """winner_B3HW and loser_B3HW as this step's judge sees them; letters are never mirrored."""
    winner_B3HW, loser_B3HW = stack_pairs(preferences)
    may_flip = [config.mirror and preference.task is not Task.TEXT for preference in preferences]
    winner_B3HW, loser_B3HW = mirrored(winner_B3HW, loser_B3HW, keys, may_flip=may_flip)
    return jittered(winner_B3HW, loser_B3HW, keys, shift=config.shift, tone=config.tone)


def _averaged(judge: QwenVLJudge, average: Qwen2_5_VLForConditionalGeneration) -> QwenVLJudge:
    return QwenVLJudge(average, judge.tokenizer, judge.pixels)


def _validate(
    mesh: Mesh, config: RewardConfig, judge: QwenVLJudge, held_out: Sequence[Preference]
) -> dict[str, dict[str, float]]:
    """Share of right answers by cell (`fill/structure`) and their mean over the cells that have a pair."""
    share = mesh.share(len(held_out))
    answers = answer_preferences(judge, [held_out[place] for place in share], config.variant, config.variant)
    cells = sorted({(preference.task, preference.dimension) for preference in held_out})
    sums = torch.zeros(len(cells), 2)
    for answer in answers:
        sums[cells.index((answer.task, answer.dimension))] += torch.tensor([float(answer.is_right), 1.0])
    right, count = mesh.sum(sums).unbind(1)
    accuracy = {f"{task}/{dimension}": float(x) for (task, dimension), x in zip(cells, right / count, strict=True)}
    return {"validation": {"mean": float((right / count).mean()), **accuracy}}
