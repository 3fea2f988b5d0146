"""The stage `train-rl`: triplets and a judge in, a better editor out, a run folder between (Algorithms 1 and 2).

What happens at a step depends on (config, triplets, step) alone: draws are keyed by the slot in the global batch, and
every condition is encoded by itself, so that neither the batch's layout nor a resume changes a number.

Shape legend: B samples, H W pixels, K dimensions.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Protocol

import torch
from einops import rearrange
from torch import Tensor, nn

from onereward.flow.sample import denoise
from onereward.flow.schedule import steps_within
from onereward.models.base import Judge
from onereward.models.fingerprint import fingerprint_of
from onereward.models.flux_fill import FluxFill
from onereward.models.load import save_editor
from onereward.models.qwen_vl import QwenVLJudge
from onereward.query import build_query
from onereward.rl import Batch, Graded, RLConfig, draw_task, init_models, train
from onereward.runtime.batches import batches_of
from onereward.runtime.checkpoint import Checkpoints, Stateful
from onereward.runtime.checks import require
from onereward.runtime.threads import torch_threads
from onereward.runtime.track import Log, track
from onereward.runtime.update import Updater
from onereward.seeds import python_generator
from onereward.store.files import write_atomically
from onereward.store.images import encode_png, tensor_to_image, triplet_tensors
from onereward.store.rundir import RunDir
from onereward.store.shards import Folder, fingerprint, read_records
from onereward.terms import Dimension, Task, Triplet, dimensions_of

_KEPT_CONDITIONS = 2048
_NAMES = "editor", "judge", "triplets"  # a run records by content what these name


class Release(StrEnum):
    """Which weights `final/` gets: pi_theta or pi_ema, the two outputs of Algorithm 1."""

    POLICY = "policy"
    AVERAGE = "average"


@dataclass(frozen=True, kw_only=True)
class TrainRLConfig(RLConfig):
    """All that decides what an editor learns from given triplets and a judge; a recipe states every value."""

    editor: str  # where training starts: `toy`, a folder or a Hub name
    judge: str
    triplets: str  # a folder, or what else the draws are made from
    seed: int
    steps: int
    micro_batch: int  # samples in memory at once; gradients add up to the batch
    learning_rate: float
    weight_decay: float
    clip: float  # largest norm of the gradient
    release: Release
    threads: int | None  # of torch; None: as the caller has set
    probe_every: int  # steps between win rates against the frozen start
    checkpoint_every: int

    def __post_init__(self) -> None:
        counts = ("steps", "batch", "micro_batch", "reference_steps", "policy_steps", "probe_every", "checkpoint_every")
        require(self, at_least=1, fields=counts)
        require(self, at_least=0, fields=("bound", "anchor", "shift", "tone", "learning_rate", "weight_decay", "clip"))
        require(self, at_least=0, at_most=1, fields=("decay",))
        if min(self.task_mix.values()) < 0 or sum(self.task_mix.values()) <= 0:
            raise ValueError(f"got task_mix {dict(self.task_mix)}, expected shares of 0 or more, one above 0")
        if self.threads is not None:
            require(self, at_least=1, fields=("threads",))


@dataclass(frozen=True, kw_only=True)
class RLRun(TrainRLConfig):
    """A config with what it was run on, by content: what `config.json` records."""

    editor_weights: str
    judge_weights: str
    drawn_from: str


class TripletSource(Protocol):
    """The sub-datasets D_k of line 4; equal names draw equal triplets."""

    @property
    def name(self) -> str: ...

    def draw(self, task: Task, random: Random) -> Triplet:
        """One triplet of the task."""
        ...


class TripletPool:
    """A folder's triplets in memory, drawn evenly within a task; raises ValueError for a drawn task that has none."""

    def __init__(self, folder: Folder) -> None:
        triplets = list(read_records(folder, Triplet))
        self.name = f"triplets {fingerprint(folder)}"
        self._by_task = {task: [triplet for triplet in triplets if triplet.task is task] for task in Task}

    def draw(self, task: Task, random: Random) -> Triplet:
        if not self._by_task[task]:
            there = ", ".join(name for name, triplets in self._by_task.items() if triplets) or "none"
            raise ValueError(f"no triplet has task {task}, tasks there: {there}; set its share in task_mix to 0")
        return random.choice(self._by_task[task])


def train_rl(
    config: TrainRLConfig,
    output: Path,
    *,
    editor: FluxFill,
    judge: QwenVLJudge,
    triplets: TripletSource,
    probe: Sequence[Triplet] = (),
) -> Path:
    """Train `editor` (its transformer changes in place) and return its folder, `output`/final.

    Run again it goes on, and a finished run is left alone. `probe` are triplets of the win rate that only the log sees;
    the judge must be frozen. Raises ValueError for a run folder of another config, for a task that is drawn but has no
    triplet, for a jump range without a step; NonFiniteError if training diverges.
    """
    run = RunDir(output)
    recorded = RLRun(
        **vars(config),
        editor_weights=fingerprint_of(editor),
        judge_weights=fingerprint_of(judge),
        drawn_from=triplets.name,
    )
    run.require_continuable(recorded, _NAMES)
    if not run.is_finished(config.steps):
        with torch_threads(config.threads):
            encoder = Encoder(editor)
            _check_draws(config, triplets, editor, encoder)
            with run.opened(recorded, _NAMES):
                _train(config, run, editor, judge, encoder, triplets, probe)
    return run.final


def _check_draws(config: TrainRLConfig, triplets: TripletSource, editor: FluxFill, encoder: "Encoder") -> None:
    """One draw of every task: what is wrong with the triplets or the jumps shows before the run begins."""
    for task, share in config.task_mix.items():
        if share > 0:
            key = config.seed, 0, 0
            batch = encoder.batch([triplets.draw(task, python_generator(*key, "triplet"))], [key])
            steps_within(editor.times(batch.condition, config.policy_steps), *config.jump_range)


def _train(
    config: TrainRLConfig,
    run: RunDir,
    editor: FluxFill,
    judge: Judge,
    encoder: "Encoder",
    triplets: TripletSource,
    probe: Sequence[Triplet],
) -> None:
    held_out = {task: [triplet for triplet in probe if triplet.task is task] for task in config.task_mix}
    probes = [Probe(editor, judge, encoder, config, own) for own in held_out.values() if own]
    models = init_models(editor.transformer, config)
    updater = Updater(
        models.policy,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        clip=config.clip,
    )
    parts: dict[str, Stateful] = {
        "policy": models.policy,
        "average": models.average,
        "optimizer": updater,
    }
    checkpoints, log = Checkpoints(run.checkpoints, keep=2), Log(run.log)
    done = checkpoints.load_last(parts)
    log.cut_after(done)
    released = models.policy if config.release is Release.POLICY else models.average
    batches = draw_batches(config, triplets, encoder, first_step=done + 1)
    started = time.monotonic()
    with track(config.steps, "train-rl", done=done) as advance:
        for step, graded in enumerate(train(models, editor, judge, batches, updater, config), start=done + 1):
            task = draw_task(config, config.seed, step)
            values: dict[str, Any] = {"task": task, **vars(updater.last), "reward": mean_reward(graded)}
            if probes and (step % config.probe_every == 0 or step == config.steps):
                values["win_rate"] = {}
                for each in probes:
                    values["win_rate"][each.task], picture = each.look(released)
                    write_atomically(run.samples / f"step-{step:08d}-{each.task}.png", picture)
            log.write(step, **values, seconds=round(time.monotonic() - started, 3))
            if step % config.checkpoint_every == 0 or step == config.steps:
                checkpoints.save(step, parts)
            started = time.monotonic()
            advance(note=f"loss {updater.last.loss:.3f}")
    run.write_final(config.steps, partial(save_editor, editor=editor, transformer=released))


class Encoder:
    """Triplets as the algorithm's batches; what the editor makes of a triplet does not depend on the policy: kept."""

    def __init__(self, editor: FluxFill) -> None:
        self._editor = editor
        self._kept: OrderedDict[str, tuple[Tensor, Tensor, Any]] = OrderedDict()

    def batch(self, triplets: Sequence[Triplet], keys: Sequence[tuple[int, int, int]]) -> Batch:
        """Triplets of one task and one size, with the keys of their draws."""
        images, masks, conditions = zip(*(self._encode(triplet) for triplet in triplets), strict=True)
        return Batch(
            task=triplets[0].task,
            prompts=[triplet.prompt for triplet in triplets],
            keys=keys,
            image_B3HW=torch.cat(images),
            mask_B1HW=torch.cat(masks),
            condition=type(conditions[0]).concat(conditions),
        )

    def size_of(self, triplet: Triplet) -> torch.Size:
        """Height and width: only triplets of one size make a batch."""
        return self._encode(triplet)[1].shape[2:]

    def _encode(self, triplet: Triplet) -> tuple[Tensor, Tensor, Any]:
        if triplet.id not in self._kept:
            device = self._editor.device
            image_13HW, mask_11HW = (tensor[None].to(device) for tensor in triplet_tensors(triplet))
            prompt = self._editor.contract.prompt_for(triplet.task, triplet.prompt)
            self._kept[triplet.id] = image_13HW, mask_11HW, self._editor.encode(image_13HW, mask_11HW, [prompt])
            if len(self._kept) > _KEPT_CONDITIONS:
                self._kept.popitem(last=False)
        return self._kept[triplet.id]


def draw_batches(
    config: TrainRLConfig, triplets: TripletSource, encoder: Encoder, *, first_step: int
) -> Iterator[list[Batch]]:
    """The global batches of the steps from `first_step` (counted from 1) on, each in micro-batches (line 4)."""
    for step in range(first_step, config.steps + 1):
        task = draw_task(config, config.seed, step)
        keys = [(config.seed, step, slot) for slot in range(config.batch)]
        drawn = [triplets.draw(task, python_generator(*key, "triplet")) for key in keys]
        slots = list(zip(keys, drawn, strict=True))
        parts = batches_of(slots, config.micro_batch, lambda slot: encoder.size_of(slot[1]))
        yield [encoder.batch([triplet for _, triplet in part], [key for key, _ in part]) for part in parts]


def mean_reward(graded: Sequence[Graded]) -> dict[Dimension, float]:
    """Mean P(yes) of a global batch by dimension, over the samples that have it (Fig. 4)."""
    found: dict[Dimension, list[float]] = {}
    for part in graded:
        for own, row in zip(part.dimensions, part.prob_yes_BK.tolist(), strict=True):
            for dimension, prob in zip(own, row, strict=False):  # NaN beyond a sample's last dimension
                found.setdefault(dimension, []).append(prob)
    return {dimension: sum(probs) / len(probs) for dimension, probs in found.items()}


class Probe:
    """Held-out triplets of one task, on which the judge compares full edits with those of the frozen start.

    Made before training begins: the start's edits are then the whole memory of it, also under Algorithm 2.
    """

    def __init__(
        self,
        editor: FluxFill,
        judge: Judge,
        encoder: Encoder,
        config: TrainRLConfig,
        triplets: Sequence[Triplet],
    ) -> None:
        self.task = triplets[0].task
        self._editor, self._judge, self._steps = editor, judge, config.reference_steps
        self._batch = encoder.batch(triplets, [(config.seed, 0, slot) for slot in range(len(triplets))])
        self._start_B3HW = self._edit(editor.transformer)

    @torch.no_grad()
    def look(self, transformer: nn.Module) -> tuple[Mapping[Dimension, float], bytes]:
        """The win rate and the picture of the edits as they are now.

        Mean P("the edit is better than the start's") over both orders, by dimension: the start itself gets 0.5. A PNG
        with a row a triplet: its source, the start's edit and the edit now.
        """
        now_B3HW = self._edit(transformer)
        dimensions = [dimensions_of(self.task, prompt) for prompt in self._batch.prompts]
        queries = [
            [build_query(self.task, dimension, prompt) for dimension in own]
            for own, prompt in zip(dimensions, self._batch.prompts, strict=True)
        ]
        prob_BK = self._judge.prob_yes_both_orders(now_B3HW, self._start_B3HW, queries)
        rate = mean_reward([Graded(loss=prob_BK.new_zeros(()), dimensions=dimensions, prob_yes_BK=prob_BK)])
        columns = torch.stack([self._batch.image_B3HW, self._start_B3HW, now_B3HW])
        return rate, encode_png(tensor_to_image(rearrange(columns, "n B c H W -> c (B H) (n W)")))

    @torch.no_grad()
    def _edit(self, transformer: nn.Module) -> Tensor:
        condition = self._batch.condition
        noise_BLC = self._editor.noise(condition, [(*key, "probe noise") for key in self._batch.keys])
        times = self._editor.times(condition, self._steps)
        latents_BLC = denoise(
            lambda latents, t_B: self._editor.velocity(latents, t_B, condition, transformer=transformer),
            noise_BLC,
            times,
        )
        return self._editor.decode(latents_BLC, condition)
