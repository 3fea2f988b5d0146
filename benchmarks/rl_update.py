"""Seconds of one update of Algorithm 1, ours against the direct form on stock parts, and the memory of both.

    OMP_NUM_THREADS=1 python -m benchmarks.rl_update [--judge toy --rounds 5]

The work is the toy recipe's, on the toy models (in float32, one thread): the same scenes, noise and jumps for both, a
new reference for every sample, no cache that outlives an update. `benchmarks.direct_rl` says what direct is. After each
update of direct ours takes the same one; a ratio is the median over the rounds of the ratio within a round, and `mix`
is over the recipe's mix of tasks. Ours begins each update with direct's weights (a little off the start's), and the run
fails unless both find the same gradient (norm of the difference over norm, of a task's updates the median: where
rounding puts a hinge, an |.| or a clamp on its other side, one update may be further off). Memory is the most bytes of
tensors alive at once over two updates on fills, beyond the parts as loaded: copies, optimizer, activations.
"""

import argparse
import copy
import json
import statistics
import sys
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from diffusers import FluxFillPipeline
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.direct_rl import (
    BACKWARD,
    GRADED,
    JUDGE,
    OPTIMIZER,
    PHASES,
    REFERENCE,
    ROLLOUT,
    DirectAlgorithm1,
    Samples,
    move_off,
)
from benchmarks.judge_scoring import ratio
from onereward.models.copies import AdapterCopies, WholeCopies
from onereward.models.flux_fill import FluxFill
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.models.qwen_vl import QwenVLJudge
from onereward.recipes.toy import ToyScenes, toy
from onereward.rl import reference_images, train
from onereward.rl_terms import Batch
from onereward.runtime.mesh import Mesh
from onereward.runtime.phases import Phases
from onereward.runtime.threads import torch_threads
from onereward.runtime.update import Updater
from onereward.terms import Task
from onereward.train.conditions import Encoder
from onereward.train.draws import Part, TripletSource, draw_slots, parts_of
from onereward.train.rl_config import TrainRLConfig
from onereward.train.timed import TimedEditor, TimedJudge

TOLERANCE = 1e-4
CPU = torch.device("cpu")
_PHASE_OF = {
    "conditions": REFERENCE,
    "reference rollout": REFERENCE,
    "policy rollout": ROLLOUT,
    "graded step": GRADED,
    "decode": GRADED,
    "regulariser": GRADED,
    "judge": JUDGE,
    "backward": BACKWARD,
    "optimizer": OPTIMIZER,
}
_LORA_RANK = 16


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Seconds of one update of both, by phase and in all."""

    direct: Mapping[str, float]
    ours: Mapping[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--judge", default="toy", metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="updates a task, after one to warm up")
    args = parser.parse_args()
    with torch_threads(1):
        config = replace(toy(), judge=args.judge)
        editor, judge = load_flux_fill(config.editor), load_qwen_vl(config.judge, max_pixels=config.judge_pixels)
        print(json.dumps(measure(editor, judge, config, ToyScenes(), args.rounds), indent=1))


def measure(
    editor: FluxFill, judge: QwenVLJudge, config: TrainRLConfig, triplets: TripletSource, rounds: int
) -> dict[str, Any]:
    """Ratios and memory; RuntimeError for unequal gradients."""
    memory = {name: peak_mib(work) for name, work in _memory_works(editor, judge, config, triplets).items()}
    direct, ours = Direct(copy.deepcopy(editor), judge, config), Ours(copy.deepcopy(editor), judge, config)
    move_off(direct.algorithm.policy)
    turns: dict[Task, list[Turn]] = {}
    differences: dict[Task, list[float]] = {}
    for task, share in config.task_mix.items():
        for step in range(1, rounds + 2) if share else ():
            part = _part(config, triplets, task, step)
            ours.begin_from(direct)
            turn = Turn(direct=direct.update(part), ours=ours.update(part))
            difference = _difference(direct.gradients(), ours.gradients())
            print(f"{task}, round {step - 1} of {rounds}: {turn}, difference {difference:.1e}", file=sys.stderr)
            differences.setdefault(task, []).append(difference)
            turns.setdefault(task, []).append(turn)
        turns[task] = turns[task][1:]  # the first warms up
    typical = max(statistics.median(own) for own in differences.values())
    if typical > TOLERANCE:
        raise RuntimeError(f"gradients differ by {typical}, expected at most {TOLERANCE}: other work")
    return {
        "torch": torch.__version__,
        "batch": config.batch,
        "steps": [config.reference_steps, config.policy_steps],
        "both_orders": config.both_orders,
        "gradient_difference": typical,
        "gradient_difference, largest": max(map(max, differences.values())),
        "seconds": {task: _seconds(own) for task, own in turns.items()},
        "direct over ours": {
            task: {name: _ratio(own, name) for name in ("update", *PHASES)} for task, own in turns.items()
        },
        "direct over ours, mix": {name: _over_mix(turns, config, name) for name in ("update", *PHASES)},
        "peak_mib": memory,
    }


class Direct:
    """The direct form, timed."""

    def __init__(self, editor: FluxFill, judge: QwenVLJudge, config: TrainRLConfig, lora_rank: int = 0) -> None:
        self._seconds: dict[str, float] = {}
        self._phase, self._since = "", 0.0
        self.algorithm = DirectAlgorithm1(
            pipeline_of(editor),
            judge,
            config,
            contract=editor.contract,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            clip=config.clip,
            lora_rank=lora_rank,
            phase=self._begin,
        )

    def update(self, part: Part) -> dict[str, float]:
        """One update; its seconds."""
        self._seconds = {}
        began = self._since = time.perf_counter()
        self.algorithm.update([Samples.of(part.triplets, part.keys, part.reference_keys, CPU)])
        self._begin("")
        return {**self._seconds, "update": time.perf_counter() - began}

    def gradients(self) -> dict[str, Tensor]:
        """Of the last update."""
        return {name: weight.grad for name, weight in self.algorithm.trained.items() if weight.grad is not None}

    def _begin(self, phase: str) -> None:
        now = time.perf_counter()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now


class Ours:
    """`rl.train` with the parts of `train-rl`, timed; nothing is kept from one update to the next but weights."""

    def __init__(self, editor: FluxFill, judge: QwenVLJudge, config: TrainRLConfig, lora_rank: int = 0) -> None:
        self._editor, self._config, self._phases = editor, config, Phases(CPU)
        self._copies = (
            AdapterCopies(editor.transformer, rank=lora_rank, seed=config.seed)
            if lora_rank
            else WholeCopies(editor.transformer, keep_start=config.needs_start)
        )
        self._timed = TimedEditor(editor, self._copies.policy, self._phases)
        self._judge = TimedJudge(judge, self._phases)
        self._updater = Updater(
            self._copies.module,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            clip=config.clip,
            phase=self._phases.phase,
        )

    def begin_from(self, direct: Direct) -> None:
        """Take its policy's weights: two optimizers part where a gradient is near 0."""
        self._copies.module.load_state_dict(direct.algorithm.policy.state_dict())

    def update(self, part: Part) -> dict[str, float]:
        """One update; its seconds."""
        began = time.perf_counter()
        with self._phases.phase("conditions"):
            batch = Encoder(self._editor).batch(part)
        models = self._copies, self._timed, self._judge
        [_] = train(*models, self._references, [[batch]], self._updater, self._config)
        seconds = {"update": time.perf_counter() - began}
        for name, spent in self._phases.take().items():
            seconds[_PHASE_OF[name]] = seconds.get(_PHASE_OF[name], 0.0) + spent
        return seconds

    def gradients(self) -> dict[str, Tensor]:
        """Of the last update."""
        named = self._copies.module.named_parameters()
        return {name: weight.grad for name, weight in named if weight.grad is not None}

    def _references(self, batch: Batch) -> Tensor:
        with self._phases.phase("reference rollout"):
            return reference_images(self._timed, self._copies.start, batch, self._config)


def pipeline_of(editor: FluxFill) -> FluxFillPipeline:
    """The stock pipeline of an editor's parts."""
    return FluxFillPipeline(
        scheduler=editor.scheduler,
        vae=editor.vae,
        text_encoder=editor.text_encoder,
        tokenizer=editor.tokenizer,
        text_encoder_2=editor.text_encoder_2,
        tokenizer_2=editor.tokenizer_2,
        transformer=editor.transformer,
    )


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that come out of operations while it is on; `peak` is the most at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: Any) -> None:
        if id(storage) not in self._known:
            self._known[id(storage)] = weakref.ref(storage, partial(self._forget, id(storage), storage.nbytes()))
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)

    def _forget(self, key: int, size: int, _: object) -> None:
        del self._known[key]
        self.now -= size


def peak_mib(work: Callable[[], object]) -> float:
    """The most bytes of tensors alive at once that came to be during the work."""
    with LiveBytes() as live:
        work()
    return round(live.peak / 2**20, 1)


def _memory_works(
    editor: FluxFill, judge: QwenVLJudge, config: TrainRLConfig, triplets: TripletSource
) -> dict[str, Callable[[], object]]:
    """From a loaded editor on two updates: the optimizer has its state in the second."""
    part = _part(config, triplets, Task.FILL, 1)

    def run(kind: type[Direct] | type[Ours], lora_rank: int, loaded: FluxFill) -> None:
        contestant = kind(loaded, judge, config, lora_rank)
        for _ in "12":
            contestant.update(part)

    kinds: Sequence[tuple[str, type[Direct] | type[Ours]]] = (("direct", Direct), ("ours", Ours))
    return {
        f"{name}, {'LoRA' if rank else 'all weights'}": partial(run, kind, rank, copy.deepcopy(editor))
        for name, kind in kinds
        for rank in (0, _LORA_RANK)
    }


def _part(config: TrainRLConfig, triplets: TripletSource, task: Task, step: int) -> Part:
    slots = draw_slots(replace(config, task_mix={task: 1.0}), config.seed, 0, triplets, step)
    [part] = parts_of(slots, config.batch, Mesh(rank=0, size=1), lambda triplet: 0)
    return part


def _difference(direct: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> float:
    if direct.keys() != ours.keys():
        raise RuntimeError(f"only one has a gradient for {', '.join(sorted(direct.keys() ^ ours.keys()))}")
    flat, other = (torch.cat([each[name].flatten() for name in direct]) for each in (direct, ours))
    return ((flat - other).norm() / other.norm()).item()


def _ratio(turns: Sequence[Turn], name: str) -> float:
    return ratio([turn.direct.get(name, 0.0) for turn in turns], [turn.ours.get(name, 0.0) for turn in turns])


def _seconds(turns: Sequence[Turn]) -> dict[str, list[float]]:
    """Medians of direct and of ours."""
    return {
        name: [
            round(statistics.median(each.get(name, 0.0) for each in one), 4)
            for one in ([turn.direct for turn in turns], [turn.ours for turn in turns])
        ]
        for name in ("update", *PHASES)
    }


def _over_mix(turns: Mapping[Task, Sequence[Turn]], config: TrainRLConfig, name: str) -> float:
    """The ratio of the mean seconds of an update whose task is drawn from the mix."""
    medians = {task: _seconds(own)[name] for task, own in turns.items()}
    direct, ours = (sum(config.task_mix[task] * both[place] for task, both in medians.items()) for place in (0, 1))
    return round(direct / ours, 2)


if __name__ == "__main__":
    main()
