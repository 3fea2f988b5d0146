"""The stage `train-reward`: preferences in, a judge out, a run folder between (Sec. 4.3).

What happens at a step depends on (config, preferences, step) alone: what is drawn is keyed by the place in the global
batch, so that any number of processes does the same work, and a resumed run the work that it missed.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from onereward.ema import WeightCopy
from onereward.metrics.answers import answer_preferences
from onereward.metrics.calibration import fit_temperatures
from onereward.metrics.records import Answer
from onereward.models.attention import SDPA_FLOAT32, without_cudnn
from onereward.models.device import Precision, default_device
from onereward.models.judge_lora import add_lora, train_all
from onereward.models.load_judge import load_qwen_vl, save_judge, saved_dtype
from onereward.models.qwen_vl import QwenVLJudge
from onereward.query import Variant
from onereward.reward import reward_step
from onereward.runtime.checkpoint import Checkpoints, Stateful, TrainedParameters
from onereward.runtime.checks import require
from onereward.runtime.mesh import Mesh, launch
from onereward.runtime.shard import shard, whole_state
from onereward.runtime.track import Log, track
from onereward.runtime.update import Optimizer, Updater
from onereward.store.rows import Rows, write_rows
from onereward.store.rundir import RunDir
from onereward.store.shards import Folder, fingerprint
from onereward.terms import Preference
from onereward.train.pairs import CELLS, Pair, augmented, draw_batch, images_of, pairs_of

if TYPE_CHECKING:
    from peft import PeftModel

logger = logging.getLogger(__name__)

_ANSWERED_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class RewardConfig:
    """All that decides what a judge learns from given preferences; a recipe states every value."""

    judge: str  # where training starts: `toy`, a folder or a Hub name
    variant: Variant  # what the queries tell (Table 1)
    max_pixels: int  # that the judge sees of an image
    lora_rank: int  # of the adapters that alone are trained; 0 trains the weights themselves
    vision: bool  # whether the vision tower is trained too
    seed: int
    steps: int
    batch: int  # pairs a step, over all processes; all that was voted about a pair is asked at once
    micro_batch: int  # pairs that a process takes forward at once; changes sums in their last bits only
    sampling: Mapping[str, float]  # how often a pair of a cell (task/dimension) is drawn, against those of others
    tie_weight: float  # of a vote for neither image, which pulls P to 1/2; 0 leaves them out
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
    precision: Precision
    checkpointing: bool  # activations are computed again on the way back: a third slower, a fraction of the memory
    validate_every: int
    patience: int  # validations without a better accuracy after which to stop, with the best weights; 0 never stops
    checkpoint_every: int

    def __post_init__(self) -> None:
        counts = ("steps", "batch", "micro_batch", "max_pixels", "validate_every", "checkpoint_every")
        require(self, at_least=1, fields=counts)
        amounts = ("warm_up", "learning_rate", "weight_decay", "clip", "shift", "tone", "lora_rank", "patience")
        require(self, at_least=0, fields=amounts)
        require(self, at_least=0, at_most=1, fields=("cool_down", "decay", "tie_weight"))
        if set(self.sampling) != set(CELLS) or min(self.sampling.values()) < 0:
            raise ValueError(f"got sampling {dict(self.sampling)}, expected 0 or more for each of {', '.join(CELLS)}")


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
    comparisons: int
    grad_norm: float
    learning_rate: float


class Best:
    """The best validation so far; a part of a checkpoint."""

    def __init__(self) -> None:
        self.step, self.accuracy, self.worse = 0, -1.0, 0

    def note(self, step: int, accuracy: float) -> None:
        """The accuracy after `step` steps."""
        if accuracy > self.accuracy:
            self.step, self.accuracy, self.worse = step, accuracy, 0
        else:
            self.worse += 1

    def state_dict(self) -> dict[str, Any]:
        """Its numbers."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Put them back."""
        vars(self).update(state)


def train_reward(
    config: RewardConfig,
    preferences: Folder,
    output: Path,
    *,
    validation: Folder | None = None,
    processes: int = 1,
    sharded: bool = False,
) -> Path:
    """Trains a judge and returns its folder, `output`/final; run again it goes on, and a finished run is left alone.

    `processes` share each global batch (under torchrun its own processes do); `sharded` splits the judge's weights over
    them. `validation` holds preferences that are never learnt from: the log shows the accuracy on them, `patience` and
    the temperatures go by it. Raises ValueError for missing or changed preferences and a run folder of another config.
    """
    run = RunDir(output)
    recorded = RewardRun(
        **vars(config),
        preferences=fingerprint(preferences),
        validation=None if validation is None else fingerprint(validation),
    )
    if config.patience and validation is None:
        raise ValueError(f"got patience {config.patience} and no --validation to go by: name one, or set patience=0")
    run.require_continuable(recorded)
    if not run.is_finished(config.steps):
        launch(processes, _train, recorded, preferences, validation, run, sharded)
    return run.final


def _train(
    mesh: Mesh, config: RewardRun, preferences: Folder, validation: Folder | None, run: RunDir, sharded: bool
) -> None:
    if sharded and mesh.size == 1:
        logger.warning("there is one process, so the weights are not split: start it with torchrun")
        sharded = False
    check_sharing(config, mesh, sharded)
    device = default_device()
    without_cudnn()
    judge = load_qwen_vl(
        config.judge,
        trainable=True,
        dtype=_dtype_of_weights(config),
        device=device,
        attention=SDPA_FLOAT32 if config.precision is Precision.BFLOAT16 and device.type == "cpu" else "sdpa",
        max_pixels=config.max_pixels,
    ).with_contract(variant=config.variant, temperatures={})
    with run.opened(config) if mesh.rank == 0 else nullcontext():
        rows = _rows(mesh, preferences, run.data / "preferences.arrow")
        held_out = None if validation is None else _rows(mesh, validation, run.data / "validation.arrow")
        if held_out is not None and all(tie for (tie,) in held_out.columns("tie")):
            raise ValueError(f"{validation} holds nothing but ties, of which no answer is right or wrong")
        _Training(mesh, config, judge, rows, held_out, run, sharded).run()


def check_sharing(config: RewardConfig, mesh: Mesh, sharded: bool) -> None:
    """Raises ValueError for a config that a judge split over the processes cannot be trained with."""
    if not sharded:
        return
    if config.optimizer is Optimizer.MUON:
        raise ValueError("muon works on whole matrices, and sharded weights are not: set optimizer=adamw")
    if config.batch % mesh.size:
        raise ValueError(f"got a batch of {config.batch} pairs for {mesh.size} processes, expected a multiple of them")


def _dtype_of_weights(config: RewardConfig) -> torch.dtype:
    """The frozen base of a LoRA is kept in bfloat16 if that is computed in; what is trained never is."""
    if config.precision is Precision.FLOAT64:
        return torch.float64
    return torch.bfloat16 if config.lora_rank and config.precision is Precision.BFLOAT16 else torch.float32


def _rows(mesh: Mesh, folder: Folder, file: Path) -> Rows[Preference]:
    """Random access to a folder's preferences, copied once into the run."""
    if mesh.rank == 0:
        write_rows(folder, Preference, file)
    mesh.wait()
    rows = Rows(file, Preference)
    if not rows:
        raise ValueError(f"{folder} holds no preference: collect votes first (onereward annotate)")
    return rows


class _Training:
    """One process's part of a run: what is trained, what is kept, and the steps."""

    def __init__(
        self,
        mesh: Mesh,
        config: RewardConfig,
        judge: QwenVLJudge,
        rows: Rows[Preference],
        held_out: Rows[Preference] | None,
        run: RunDir,
        sharded: bool,
    ) -> None:
        self.mesh, self.config, self.judge, self.folder, self.sharded = mesh, config, judge, run, sharded
        self.rows, self.held_out = rows, held_out
        self.pairs = pairs_of(rows, ties=config.tie_weight > 0)
        self.adapted = _prepare(judge, config)
        if sharded:
            blocks = [*judge.model.model.visual.blocks, *judge.model.model.language_model.layers]
            bfloat16 = config.precision is Precision.BFLOAT16
            shard(mesh, judge.reader, blocks, judge.model.device, bfloat16=bfloat16)
        self.updater = Updater(
            judge.model,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            clip=config.clip,
            optimizer=config.optimizer,
        )
        self.average = WeightCopy(judge.model) if config.decay else None
        self.best = Best()
        self.parts: dict[str, Stateful] = {
            "model": TrainedParameters(judge.model),
            "optimizer": self.updater,
            "best": self.best,
        }
        if self.average:
            self.parts["average"] = self.average
        self.checkpoints = Checkpoints(run.checkpoints, keep=2, sharded=sharded)

    def run(self) -> None:
        """From the last checkpoint to the finished judge."""
        config, writes = self.config, self.mesh.rank == 0
        log = Log(self.folder.log)
        done = self.checkpoints.load_last(self.parts)
        if writes:
            log.cut_after(done)
        with (
            track(config.steps, "train-reward", done=done) if writes else nullcontext(_ignore) as advance,
            self.checkpoints,
        ):
            for step, shown in self._shown_ahead(done + 1):
                self.checkpoints.check()
                figures = self._step(step, *shown)
                if self.average:
                    self.average.update(min(config.decay, 1 - 1 / step))
                accuracy = self._validation(step)
                if writes:
                    log.write(step, **asdict(figures), **accuracy)
                is_last = step == config.steps or self._is_over()
                if is_last or step % config.checkpoint_every == 0 or (accuracy and config.patience):
                    self._save(step)
                advance(note=f"loss {figures.loss:.3f}")
                if is_last:
                    break
        self.mesh.wait()  # the last checkpoint is there, whoever wrote it
        self._finish()

    def _is_over(self) -> bool:
        return 0 < self.config.patience <= self.best.worse

    def _save(self, step: int) -> None:
        if self.sharded or self.mesh.rank == 0:
            self.checkpoints.save(step, self.parts, also_keep=[self.best.step] if self.config.patience else [])

    def _shown_ahead(self, first: int) -> Iterator[tuple[int, "_Shown"]]:
        """Each step with its batch, the next one's images being decoded meanwhile; nothing if the run is over."""
        if self._is_over() or first > self.config.steps:
            return
        with ThreadPoolExecutor(1) as reader:
            following: Future[_Shown] = reader.submit(self._show, first)
            for step in range(first, self.config.steps + 1):
                shown = following.result()
                following = reader.submit(self._show, min(step + 1, self.config.steps))
                yield step, shown

    def _show(self, step: int) -> "_Shown":
        """The global batch of a step, and the images of this process's share of it."""
        config = self.config
        batch = draw_batch(self.pairs, config.sampling, config.seed, config.batch, step)
        slots = self.mesh.share(len(batch))
        images = [
            augmented(
                *images_of(self.rows, batch[slot]),
                batch[slot].comparisons[0].task,
                (config.seed, step, slot),
                mirror=config.mirror,
                shift=config.shift,
                tone=config.tone,
            )
            for slot in slots
        ]
        return batch, [batch[slot] for slot in slots], images

    def _step(
        self, step: int, batch: Sequence[Pair], own: Sequence[Pair], images: Sequence[tuple[Tensor, Tensor]]
    ) -> StepFigures:
        """One update on the global batch, of which this process computes its share."""
        config, judge = self.config, self.judge
        comparisons = [comparison for pair in batch for comparison in pair.comparisons]
        total_weight = sum(c.weight * (config.tie_weight if c.tie else 1) for c in comparisons)
        sums = torch.zeros(3, dtype=torch.float64)

        def losses() -> Iterator[Tensor]:
            for start in range(0, len(own), config.micro_batch):
                part = slice(start, start + config.micro_batch)
                first, second = zip(*images[part], strict=True)
                with self._autocast():
                    judged = reward_step(
                        judge,
                        [pair.comparisons for pair in own[part]],
                        first,
                        second,
                        config.variant,
                        tie_weight=config.tie_weight,
                    )
                loss = judged.loss * (judged.weight_P.sum() / total_weight)
                decided_P = ~judged.tie_P
                figures = loss.detach(), ((judged.log_odds_P > 0) & decided_P).sum(), decided_P.sum()
                sums.add_(torch.stack([figure.double() for figure in figures]).cpu())
                yield loss
            if not self.sharded:
                self.mesh.sum_gradients(judge.model.parameters())  # the updater has taken the last part backward by now

        rate = learning_rate_at(step, config)
        self.updater.set_learning_rate(rate)
        self.updater(losses())
        loss, right, decided = self.mesh.sum(sums).tolist()
        return StepFigures(
            loss=loss,
            accuracy=right / max(decided, 1),
            comparisons=len(comparisons),
            grad_norm=self.updater.last.grad_norm,
            learning_rate=rate,
        )

    def _autocast(self) -> torch.autocast:
        enabled = self.config.precision is Precision.BFLOAT16
        return torch.autocast(self.judge.model.device.type, torch.bfloat16, enabled=enabled)

    def _averaged(self) -> AbstractContextManager[None]:
        return self.average.in_place() if self.average else nullcontext()

    def _validation(self, step: int) -> dict[str, dict[str, float]]:
        """What the log says of the held-out preferences, where it is time for that."""
        if self.held_out is None or not (step % self.config.validate_every == 0 or step == self.config.steps):
            return {}
        with self._averaged():
            accuracy = _accuracy(self._answers(self.held_out))
        self.best.note(step, accuracy["mean"])
        return {"validation": accuracy}

    def _answers(self, held_out: Rows[Preference]) -> list[Answer]:
        """The answer to each held-out preference, on every process; each asks its share, as many as the others."""
        places = [place for place, (tie,) in enumerate(held_out.columns("tie")) if not tie]
        mesh, found = self.mesh, []
        for start in range(0, len(places), _ANSWERED_AT_ONCE * mesh.size):
            chunk = places[start : start + _ANSWERED_AT_ONCE * mesh.size]
            own = [chunk[slot] for slot in mesh.share(len(chunk))]
            asked = [held_out[place] for place in own or chunk[:1]]
            with self._autocast():
                answers = answer_preferences(self.judge, asked, self.config.variant, self.config.variant)
            found += mesh.gather(answers if own else [])
        return found

    def _finish(self) -> None:
        """The finished judge, calibrated where there is something to calibrate it on."""
        if self.config.patience:
            weights = {name: part for name, part in self.parts.items() if name in ("model", "average")}
            self.checkpoints.load(self.best.step, weights)
        judge, owner = self.judge, self.adapted or self.judge.model
        with self._averaged():
            if self.held_out is not None:
                judge = judge.with_contract(temperatures=fit_temperatures(self._answers(self.held_out)))
            state = whole_state(owner, trained_only=self.adapted is not None)
        if self.mesh.rank == 0:
            dtype = torch.float32 if self.adapted else saved_dtype(self.config.judge)
            state = {name: tensor.to(dtype) for name, tensor in state.items()}
            save = partial(save_judge, judge=judge, model=self.adapted, state=state)
            self.folder.write_final(self.config.steps, save, best_step=self.best.step)
            rmtree(self.folder.data)
        self.mesh.wait()


_Shown = tuple[Sequence[Pair], Sequence[Pair], Sequence[tuple[Tensor, Tensor]]]


def _prepare(judge: QwenVLJudge, config: RewardConfig) -> "PeftModel | None":
    """Choose what is trained; returns the adapters' owner, if there are adapters."""
    adapted = None
    if config.lora_rank:
        adapted = add_lora(judge, rank=config.lora_rank, vision=config.vision, seed=config.seed)
    else:
        train_all(judge, vision=config.vision)
    if config.checkpointing:
        judge.recompute_activations()
    return adapted


def _ignore(count: int = 1, note: str = "") -> None:
    """The progress of a process that shows none."""


def learning_rate_at(step: int, config: RewardConfig) -> float:
    """The rate of a step, counted from 1: up in a line, then level, then down in a line towards 0."""
    rise = step / max(config.warm_up, 1)
    fall = (config.steps - step + 1) / max(config.cool_down * config.steps, 1)
    return config.learning_rate * min(1.0, rise, fall)


def _accuracy(answers: Sequence[Answer]) -> dict[str, float]:
    """Share of right answers by cell (`fill/structure`) and their mean over the cells that have a pair."""
    of_cell: dict[str, list[bool]] = {}
    for answer in answers:
        of_cell.setdefault(f"{answer.task}/{answer.dimension}", []).append(answer.is_right)
    shares = {cell: sum(right) / len(right) for cell, right in sorted(of_cell.items())}
    return {"mean": sum(shares.values()) / len(shares), **shares}
