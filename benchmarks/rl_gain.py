"""Time to equal gain: until ours has gained by the oracle what the direct form gains in 100 updates.

    OMP_NUM_THREADS=1 python -m benchmarks.rl_gain --judge runs/demo/judge/final --output runs/rl-gain [--seeds 0 1 2]

Direct is `DirectAlgorithm1` with the toy recipe's values, ours the parts of `train-rl` with the changes in `OURS`. A
clock holds everything that a contestant does for its training (drawing scenes, encoding, a pool of references, updates)
and leaves out loading models and evaluating. Both train at once, in a process of one thread each. Gain is the mean over
the four tasks of the mean over their dimensions of the average's score less the start's, on the same held-out scenes
from the same noise; a dimension has fallen if its difference is below -.02 with its whole 95 % interval. What a
contestant was like after some updates is kept and evaluated when its time is over.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy
import torch
from diffusers import FluxFillPipeline
from torch import Tensor

from benchmarks.direct_rl import DirectAlgorithm1, Samples
from onereward.metrics.intervals import Interval, bootstrap_mean
from onereward.models.copies import WholeCopies
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.models.names import resolve
from onereward.recipes.settings import with_settings
from onereward.recipes.toy import ToyScenes, toy
from onereward.rl import reference_images, train
from onereward.rl_terms import Batch
from onereward.runtime.mesh import Mesh
from onereward.runtime.update import Updater
from onereward.runtime.workers import worker_processes
from onereward.seeds import python_generator
from onereward.store.cache import Cache
from onereward.store.images import tensor_to_image
from onereward.terms import Dimension, Task, Triplet
from onereward.toy.oracle import ToyOracle
from onereward.toy.scenes import TASK_CYCLE, Split, make_scene
from onereward.train.conditions import Encoder
from onereward.train.draws import Part, TripletSource, draw_slots, parts_of
from onereward.train.references import PooledReferences
from onereward.train.rl_config import TrainRLConfig

OURS = "reference_pool=1", "reference_steps=3", "policy_steps=3", "batch=8", "decay=0.98"
"""What ours changes of the toy recipe, chosen on other seeds (10 to 12) and other held-out scenes (docs/log.md)."""
UPDATES = 100
FALLEN = -0.02
ALONE = Mesh(rank=0, size=1)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The average after some updates, and the clock's seconds: by the wall, and of this process's thread."""

    updates: int
    seconds: float
    cpu_seconds: float
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """So many scenes of each task in proportion to the mix, drawn evenly: a source that a pool can be made of."""

    triplets: Mapping[Task, Sequence[Triplet]]
    name: str = "fixed toy scenes"

    @classmethod
    def drawn(cls, config: TrainRLConfig, count: int) -> "Fixed":
        shares = {task: share / sum(config.task_mix.values()) for task, share in config.task_mix.items()}
        random = python_generator(config.seed, "fixed scenes")
        return cls(
            triplets={
                task: [ToyScenes().draw(task, random) for _ in range(round(share * count))]
                for task, share in shares.items()
            }
        )

    def draw(self, task: Task, random: Random) -> Triplet:
        return random.choice(self.triplets[task])

    def all(self) -> Sequence[Triplet]:
        return [triplet for own in self.triplets.values() for triplet in own]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--judge", required=True, metavar="DIR")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--scenes", type=int, default=150, metavar="N", help="held-out scenes a task")
    parser.add_argument("--updates", type=int, default=100, metavar="N", help="of ours at most")
    parser.add_argument("--triplets", type=int, default=200, metavar="N", help="scenes of ours; 0: no end of them")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="of ours, beside OURS")
    parser.add_argument("--set-direct", action="append", default=[], metavar="FIELD=VALUE", help="of direct")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    found = {}
    for seed in args.seeds:
        recipe = replace(toy(), judge=args.judge, seed=seed)
        direct = replace(with_settings(recipe, args.set_direct), steps=UPDATES)
        ours = replace(with_settings(recipe, [*OURS, *args.set]), steps=args.updates)
        with worker_processes(2) as executor:
            runs = {
                "direct": executor.submit(_measure, direct_snapshots, direct, args.scenes, 50),
                "ours": executor.submit(_measure, partial(our_snapshots, args.triplets), ours, args.scenes, 10),
            }
            found[f"seed {seed}"] = compare(*(run.result() for run in runs.values()))
        (args.output / f"seed-{seed}.json").write_text(json.dumps(found[f"seed {seed}"], indent=1))
    print(
        json.dumps(
            {"settings": [*OURS, *args.set], "direct": args.set_direct, "triplets": args.triplets, **found}, indent=1
        )
    )


def compare(direct: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The first of ours that has gained what the last of direct has, no dimension fallen, and the times' ratio."""
    goal = direct[-1]
    reached = next((one for one in ours if one["gain"] >= goal["gain"] and not one["fallen"]), None)
    return {
        "direct_over_ours": reached and round(goal["seconds"] / reached["seconds"], 2),
        "reached": reached,
        "goal": goal,
        "direct": direct,
        "ours": ours,
    }


def _measure(
    run: Callable[[TrainRLConfig, int], list[Snapshot]], config: TrainRLConfig, scenes: int, every: int
) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    exam = Exam(config, scenes)
    return [exam.report(snapshot) for snapshot in run(config, every)]


def direct_snapshots(config: TrainRLConfig, every: int) -> list[Snapshot]:
    """The stock parts' average after every so many updates."""
    direct = DirectAlgorithm1(
        FluxFillPipeline.from_pretrained(resolve(config.editor, "editor")),
        load_qwen_vl(config.judge, max_pixels=config.judge_pixels),
        config,
        contract=load_flux_fill(config.editor).contract,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        clip=config.clip,
    )

    def updates() -> Iterator[None]:
        for step in range(1, config.steps + 1):
            slots = draw_slots(config, config.seed, 0, ToyScenes(), step)
            keys = [slot.key for slot in slots]
            direct.update([Samples.of([slot.triplet for slot in slots], keys, keys, torch.device("cpu"))])
            yield

    return _snapshots(updates(), lambda: dict(direct.average.named_parameters()), every)


def our_snapshots(count: int, config: TrainRLConfig, every: int) -> list[Snapshot]:
    """Ours; `count` scenes are drawn from, 0: no end of them."""
    editor = load_flux_fill(config.editor)
    judge = load_qwen_vl(config.judge, max_pixels=config.judge_pixels)
    models = WholeCopies(editor.transformer, keep_start=config.needs_start, bfloat16=config.bfloat16)
    updater = Updater(
        models.module, learning_rate=config.learning_rate, weight_decay=config.weight_decay, clip=config.clip
    )

    def updates() -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            triplets: TripletSource = Fixed.drawn(config, count) if count else ToyScenes()
            encoder = Encoder(editor)
            references: Callable[[Batch], Tensor] = partial(reference_images, editor, models.start, config=config)
            if config.reference_pool:
                references = PooledReferences(references, Cache(Path(folder)), "")

            def batches() -> Iterator[Iterator[Batch]]:
                for step in range(1, config.steps + 1):
                    slots = draw_slots(config, config.seed, config.reference_pool, triplets, step)
                    parts = parts_of(slots, config.micro_batch, ALONE, encoder.size_of)
                    yield (encoder.batch(part) for part in parts)

            for _ in train(models, editor, judge, references, batches(), updater, config):
                yield

    return _snapshots(updates(), lambda: models.kept_average.values, every)


def _snapshots(updates: Iterator[None], average: Callable[[], Mapping[str, Tensor]], every: int) -> list[Snapshot]:
    began, cpu_began, kept = time.perf_counter(), time.process_time(), []
    for number, _ in enumerate(updates, start=1):
        if number % every == 0:
            snapshot = Snapshot(
                updates=number,
                seconds=time.perf_counter() - began,
                cpu_seconds=time.process_time() - cpu_began,
                weights={name: weight.detach().clone() for name, weight in average().items()},
            )
            kept.append(snapshot)
    return kept


class Exam:
    """Held-out scenes, as many of each task, and what the start's edits of them score."""

    def __init__(self, config: TrainRLConfig, scenes: int) -> None:
        self._config, self._editor, self._oracle = config, load_flux_fill(config.editor), ToyOracle()
        encoder, self._batches = Encoder(self._editor), []
        for task in Task:
            triplets = _held_out(task, scenes)
            for first in range(0, scenes, config.batch):
                own = triplets[first : first + config.batch]
                keys = [("exam", triplet.id) for triplet in own]
                part = Part(triplets=own, keys=keys, reference_keys=keys, abreast=keys, weight=1.0)
                self._batches.append((own, encoder.batch(part)))
        self._start = self._scores()

    def report(self, snapshot: Snapshot) -> dict[str, Any]:
        """A snapshot's clock, its gain and each cell's difference with its interval."""
        self._editor.transformer.load_state_dict(snapshot.weights)
        scores = self._scores()
        cells = {
            cell: bootstrap_mean(numpy.subtract(values, self._start[cell]), seed=0) for cell, values in scores.items()
        }
        of_tasks = [numpy.mean([interval.value for (of, _), interval in cells.items() if of is task]) for task in Task]
        return {
            "updates": snapshot.updates,
            "seconds": round(snapshot.seconds, 1),
            "cpu_seconds": round(snapshot.cpu_seconds, 1),
            "gain": round(float(numpy.mean(of_tasks)), 6),
            "fallen": [f"{task}/{dimension}" for (task, dimension), cell in cells.items() if cell.high < FALLEN],
            "differences": {f"{task}/{dimension}": _rounded(cell) for (task, dimension), cell in cells.items()},
        }

    def _scores(self) -> dict[tuple[Task, Dimension], list[float]]:
        found: dict[tuple[Task, Dimension], list[float]] = {}
        for triplets, batch in self._batches:
            images_B3HW = reference_images(self._editor, self._editor.transformer, batch, self._config)
            images_B3HW = torch.where(batch.mask_B1HW > 0, images_B3HW, batch.image_B3HW)
            for triplet, image_3HW in zip(triplets, images_B3HW, strict=True):
                for dimension, value in self._oracle(triplet, tensor_to_image(image_3HW)).items():
                    found.setdefault((triplet.task, dimension), []).append(value)
        return found


def _held_out(task: Task, scenes: int) -> list[Triplet]:
    """Validation scenes of a task."""
    places = [place for place, cycled in enumerate(TASK_CYCLE) if cycled is task]
    blocks = range(20_000 // len(TASK_CYCLE), 10**9)
    indices = (block * len(TASK_CYCLE) + place for block in blocks for place in places)
    return [make_scene(Split.VALIDATION, index).triplet() for index, _ in zip(indices, range(scenes), strict=False)]


def _rounded(interval: Interval) -> list[float]:
    return [round(value, 4) for value in (interval.value, interval.low, interval.high)]


if __name__ == "__main__":
    main()
