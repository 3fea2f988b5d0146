"""The stages in a row on the toy models, over files: what `onereward demo` does and what a real project does by hand.

Every stage finds out by itself what of its work is done, so the same command after Ctrl-C, SIGKILL or a power cut goes
on where it was and ends with the same figures. `clock.json` keeps each stage's time over all starts.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Executor, wait
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path

from onereward.annotate.database import VoteDatabase
from onereward.annotate.export import export_preferences, latest_answers
from onereward.annotate.pairing import Pairing
from onereward.annotate.voting import collect_votes, skip_shares
from onereward.evaluate.editor import edit_triplets, score_edits
from onereward.evaluate.judge import evaluate_judge
from onereward.generate.stage import generate
from onereward.models.clip import load_clip
from onereward.models.fingerprint import fingerprint_of
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.query import Variant
from onereward.recipes.demo import EVALUATED_SPLIT, DemoConfig
from onereward.recipes.toy import ToyScenes, toy, toy_candidates, toy_probe
from onereward.recipes.toy_judge import toy_judge
from onereward.report import Report, ReportInputs, TimeRow, read_report, write_report
from onereward.runtime.threads import torch_threads
from onereward.runtime.track import hush, track
from onereward.runtime.workers import worker_processes
from onereward.select.stage import SelectConfig, select
from onereward.store.files import write_atomically
from onereward.store.rundir import RunDir
from onereward.store.shards import read_manifest, shard_ranges
from onereward.terms import Task
from onereward.toy.oracle import ToyOracle
from onereward.toy.pool import ToyPoolConfig, write_toy_pool
from onereward.toy.scenes import TASK_CYCLE, Split, toy_truth
from onereward.train.reward import train_reward
from onereward.train.rl import Sources, train_rl

logger = logging.getLogger(__name__)

WORKERS = 2  # processes of one thread: on two cores faster than one process of two threads
_HEARTBEAT = 2.0  # seconds of a stage's time that a SIGKILL may lose


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A step of the demo and the seconds it is meant to take at most on two cores (None: no matter)."""

    name: str
    run: Callable[[], object]
    budget: float | None = None


class Clock:
    """Wall time by stage, over all starts of the demo; a finished stage's further checks are not counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        state = json.loads(path.read_text()) if path.exists() else {"seconds": {}, "finished": []}
        self.seconds: dict[str, float] = state["seconds"]
        self._finished: list[str] = state["finished"]

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time inside to the stage's, on disk every few seconds; leaving without an error finishes it."""
        if stage in self._finished:
            yield
            return
        before, start, stop = self.seconds.get(stage, 0.0), time.monotonic(), threading.Event()

        def save() -> None:
            self.seconds[stage] = before + time.monotonic() - start
            state = {"seconds": self.seconds, "finished": self._finished}
            write_atomically(self._path, json.dumps(state, indent=1).encode())

        def beat() -> None:
            while not stop.wait(_HEARTBEAT):
                with suppress(OSError):  # the stage itself meets a full disk, and says so
                    save()

        heart = threading.Thread(target=beat, daemon=True)
        heart.start()
        try:
            yield
            self._finished.append(stage)
        finally:
            stop.set()
            heart.join()
            save()


def run_demo(output: Path, config: DemoConfig) -> tuple[Report, Path]:
    """Run every stage under `output` and return the report and its page; run again it goes on where it was.

    Raises ValueError if `output` holds a demo with other settings.
    """
    clock = Clock(output / "clock.json")
    with torch_threads(1), worker_processes(WORKERS, hush) as executor:
        stages = demo_stages(output, config, executor)
        for number, stage in enumerate(stages, start=1):
            logger.info("[%d/%d] %s", number, len(stages), stage.name)
            with clock.measure(stage.name):
                stage.run()
    timing = [TimeRow(stage=s.name, seconds=clock.seconds[s.name], budget=s.budget) for s in stages]
    report = read_report(_report_inputs(output, timing, config.seed))
    return report, write_report(report, output)


def demo_stages(output: Path, config: DemoConfig, executor: Executor) -> list[Stage]:
    """The stages in order; each reads what earlier ones wrote under `output` and checks what is there of its own.

    The processes of the `executor` do what can be done side by side; the judge's training starts its own.
    """
    train, test = output / "train", output / "test"
    return [
        Stage(name="data", run=partial(_write_pools, output, config)),
        Stage(name="select", run=partial(_select, train, config)),
        Stage(
            name="candidates",
            run=partial(_candidates, (train, test), config, executor),
            budget=config.budget_candidates,
        ),
        Stage(name="votes", run=partial(_votes, (train, test))),
        Stage(name="judge", run=partial(_train_judge, train, output / "judge", config), budget=config.budget_judge),
        Stage(name="evaluate judge", run=partial(_evaluate_judge, test, output, executor)),
        Stage(name="reinforcement", run=partial(_train_editors, output, config, executor), budget=config.budget_rl),
        Stage(
            name="evaluate editors",
            run=partial(_evaluate_editors, output, config, executor),
            budget=config.budget_evaluation,
        ),
    ]


def _write_pools(output: Path, config: DemoConfig) -> None:
    """Pools of training and of test scenes, and the held-out triplets on which editors are compared."""
    rarest = min(TASK_CYCLE.count(task) for task in Task)
    pools = {
        output / "train" / "pool": ToyPoolConfig(split=Split.TRAIN, count=config.pool),
        output / "test" / "triplets": ToyPoolConfig(split=EVALUATED_SPLIT, count=config.test_preferences),
        output / "evaluation" / "triplets": ToyPoolConfig(
            split=EVALUATED_SPLIT,
            count=ceil(config.test_per_task / rarest) * len(TASK_CYCLE),
            first=config.test_first,
        ),
    }
    shards = sum(len(shard_ranges(pool.count, pool.shard_size)) for pool in pools.values())
    with track(shards, "data") as advance:
        for folder, pool in pools.items():
            write_toy_pool(folder, pool, advance)


def _select(train: Path, config: DemoConfig) -> None:
    clip = load_clip("toy")
    with track(config.pool, "select") as advance:
        select(
            train / "pool",
            train / "triplets",
            SelectConfig(count=config.selected, clip="toy", seed=config.seed),
            clip.embed,
            weights=fingerprint_of(clip),
            embedded=advance,
        )


def _candidates(splits: tuple[Path, ...], config: DemoConfig, executor: Executor) -> None:
    editor = load_flux_fill("toy")
    settings = toy_candidates(editor.contract, candidates=config.candidates, seed=config.seed)
    with track(sum(_shards(split / "triplets") for split in splits), "candidates") as advance:
        for split in splits:
            generate(
                split / "triplets",
                split / "candidates",
                settings,
                partial(load_flux_fill, "toy"),
                editor=editor,
                editor_name="toy",
                executor=executor,
                progress=advance,
            )


def _votes(splits: tuple[Path, ...]) -> None:
    """The oracle votes; beside the preferences, `skips.json` says how many votes of each cell were skips."""
    with track(2 * sum(_shards(split / "triplets") for split in splits), "votes") as advance:
        for split in splits:
            pairing = Pairing(split / "triplets", split / "candidates")
            with VoteDatabase(str(split / "votes.sqlite")) as database:
                collect_votes(database, pairing, ToyOracle(), advance)
                export_preferences(database, pairing, split / "preferences", advance)
                cells = skip_shares(latest_answers(database.answers(pairing.fingerprints["candidates"])))
            skips = {"skips": [{**asdict(cell), "share": cell.share} for cell in cells]}
            write_atomically(split / "skips.json", json.dumps(skips, indent=1).encode())


def _train_judge(train: Path, run: Path, config: DemoConfig) -> None:
    train_reward(
        replace(toy_judge(), steps=config.judge_steps, seed=config.seed), train / "preferences", run, processes=WORKERS
    )


def _evaluate_judge(test: Path, output: Path, executor: Executor) -> None:
    """The tuned judge, the same asked one fixed query, and the untuned one."""
    tuned = str(RunDir(output / "judge").final)
    asked = {
        "untuned": ("toy", Variant.TASK_DIMENSION),
        "task_dimension": (tuned, Variant.TASK_DIMENSION),
        "fixed_query": (tuned, Variant.FIXED_QUERY),
    }
    preferences = test / "preferences"
    with track(len(asked) * _shards(preferences), "evaluate judge") as advance:
        for label, (judge, variant) in asked.items():
            folder = output / "answers" / label
            evaluate_judge(preferences, folder, judge, variant, label, executor=executor, progress=advance)


def _train_editors(output: Path, config: DemoConfig, executor: Executor) -> None:
    """Both algorithms at once, one process with one thread each; this process shows how far both are."""
    judge = str(RunDir(output / "judge").final)
    runs = {_run_of(output, dynamic): dynamic for dynamic in (False, True)}
    with track(len(runs) * config.rl_steps, "reinforcement") as advance:
        running = set()
        for run, dynamic in runs.items():
            if RunDir(run).final.exists():
                _train_editor(run, judge, dynamic, config)  # which looks whether it is what is asked for now
            else:
                running.add(executor.submit(_train_editor, run, judge, dynamic, config))
        shown = 0
        while running:
            done, running = wait(running, timeout=0.5, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
            taken = sum(_steps_taken(run) for run in runs)
            advance(max(0, taken - shown))
            shown = max(shown, taken)


def _train_editor(run: Path, judge: str, dynamic: bool, config: DemoConfig) -> None:
    """One algorithm, in a worker."""
    recipe = replace(toy(dynamic=dynamic), judge="of this demo", steps=config.rl_steps, seed=config.seed)
    sources = Sources(
        editor=partial(load_flux_fill, recipe.editor),
        judge=partial(load_qwen_vl, judge),
        triplets=ToyScenes(first=config.rl_first),
        probe=toy_probe(config.rl_probe),
    )
    train_rl(recipe, run, sources)


def _steps_taken(run: Path) -> int:
    log = RunDir(run).log
    return log.read_bytes().count(b"\n") if log.exists() else 0


def _run_of(output: Path, dynamic: bool) -> Path:
    return output / ("algorithm-2" if dynamic else "algorithm-1")


def _evaluate_editors(output: Path, config: DemoConfig, executor: Executor) -> None:
    folder = output / "evaluation"
    sources = {"base": "toy"} | {
        run.name: str(RunDir(run).final) for run in (_run_of(output, False), _run_of(output, True))
    }
    with track(2 * _shards(folder / "triplets"), "evaluate editors") as advance:
        edit_triplets(
            folder / "triplets",
            folder / "edits",
            sources,
            seed=config.seed,
            truth=toy_truth,
            executor=executor,
            progress=advance,
        )
        score_edits(
            folder / "triplets",
            folder / "edits",
            folder / "scores",
            ToyOracle(),
            executor=executor,
            progress=advance,
        )


def _shards(folder: Path) -> int:
    return len(read_manifest(folder).shards)


def _report_inputs(output: Path, timing: list[TimeRow], seed: int) -> ReportInputs:
    train, evaluation = output / "train", output / "evaluation"
    return ReportInputs(
        stages=(train / "pool", train / "triplets", train / "candidates", train / "preferences"),
        edits=evaluation / "edits",
        scores=evaluation / "scores",
        answers=tuple(output / "answers" / label for label in ("untuned", "task_dimension", "fixed_query")),
        runs={"judge": output / "judge"} | {run.name: run for run in (_run_of(output, False), _run_of(output, True))},
        skips=train / "skips.json",
        timing=timing,
        seed=seed,
    )
