"""train-rl as people start it: on any number of processes the same run, sharded or not, and killed at any moment.

The models are the tiniest. The anchor is left out: it pulls by the sign of a change that is all rounding at first.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Self

import psutil
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, distributed

from onereward.cli.main import main
from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.models.qwen_vl import QwenVLJudge
from onereward.recipes.toy import ToyScenes, toy, toy_probe
from onereward.runtime.update import NonFiniteError
from onereward.train.rl import Means, Sources, train_rl
from tests.stock_judge import Doubles
from tests.tiny import tiny_flux_fill_folder
from tests.tiny_judge import tiny_judge_folder
from tests.train.test_rl import pool_of

ROOT = Path(__file__).parents[2]
STEPS = 20
KILLS = 10
EVERY = 5
SLOW = "tests.train.command_in_slow_motion"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

SHARDED = ("--sharded", "--offload-idle")
ALGORITHMS = {
    "static weights": (),
    "static adapters": ("--set", "lora_rank=4"),
    "dynamic weights": ("--dynamic", "--set", "flow_matching=0.1", "--set", "graded_steps=2"),
    "dynamic adapters": ("--dynamic", "--set", "lora_rank=4", "--set", "checkpointing=true"),
}

Log = list[dict[str, Any]]
Start = Callable[..., Path]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A small run: 20 updates by batches of four, graded one at a time after either of two steps; two probes."""
    folder = tmp_path_factory.mktemp("models")
    editor, judge = tiny_flux_fill_folder(folder / "editor"), tiny_judge_folder(folder / "judge")
    pool_of(toy_probe(5), folder / "probe")
    changes = ("batch=4", "micro_batch=1", "pixels=1024", "reference_steps=2", "policy_steps=5", "bound=1.0")
    changes += ("decay=0.9", "anchor=0.0", "kl=1.0", "learning_rate=2e-4", "probe_every=10")
    return [
        *("train-rl", "toy", "--editor", str(editor), "--judge", str(judge), "--probe", str(folder / "probe")),
        *("--steps", str(STEPS), "--tracker", "none", "-q", "--set", f"checkpoint_every={EVERY}"),
        *(word for change in changes for word in ("--set", change)),
    ]


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Start:
    """`whole(*further words)`: a run in this process that was never stopped, made once."""
    runs: dict[tuple[str, ...], Path] = {}

    def start(*further: str) -> Path:
        if further not in runs:
            run = tmp_path_factory.mktemp("whole") / "run"
            with Doubles() if "precision=float64" in further else nullcontext():
                assert main([*words, "--output", str(run), *further]) == 0
            runs[further] = run
        return runs[further]

    return start


def log_of(run: Path) -> Log:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def without_time(log: Log) -> Log:
    measured = "seconds", "phases", "peak_gib"
    return [{key: value for key, value in line.items() if key not in measured} for line in log]


def weights_of(run: Path) -> dict[str, Tensor]:
    """Of what was trained: the transformer, or its adapters."""
    adapters = run / "final" / "pytorch_lora_weights.safetensors"
    whole = run / "final" / "transformer" / "diffusion_pytorch_model.safetensors"
    return load_file(adapters if adapters.exists() else whole)


def furthest(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    """The largest difference of two weights of one name."""
    assert one.keys() == two.keys() and one
    return max((one[name] - two[name]).abs().max().item() for name in one)


def distance_moved(run: Path, words: list[str]) -> float:
    """How far a weight went from the editor's, or from 0, where the second matrix of an adapter begins."""
    ended = weights_of(run)
    second = [weight for name, weight in ended.items() if "lora_B" in name]
    if second:
        return max(weight.abs().max().item() for weight in second)
    editor = Path(words[words.index("--editor") + 1])
    return furthest(ended, load_file(editor / "transformer" / "diffusion_pytorch_model.safetensors"))


def assert_equal_runs(one: Path, two: Path) -> None:
    assert without_time(log_of(one)) == without_time(log_of(two))
    assert furthest(weights_of(one), weights_of(two)) == 0


def assert_same_but_for_rounding(one: Path, two: Path, *, losses: float, weights: float) -> None:
    """Two runs' traces and final weights, within a relative and an absolute bound."""
    pairs = list(zip(log_of(one), log_of(two), strict=True))
    loss = max(abs(a["loss"] / b["loss"] - 1) for a, b in pairs)
    weight = furthest(weights_of(one), weights_of(two))
    print(f"largest relative difference of a loss {loss:.1e}, largest difference of a weight {weight:.1e}")
    assert len(pairs) == STEPS
    assert loss <= losses and weight <= weights
    for a, b in pairs:
        assert a["task"] == b["task"] and a["clipped"] == b["clipped"]
        assert a["reward"] == pytest.approx(b["reward"], rel=10 * losses)
    for a, b in zip(pairs[-1][0]["win_rate"].items(), pairs[-1][1]["win_rate"].items(), strict=True):
        assert a == (b[0], pytest.approx(b[1], rel=10 * losses))


def torchrun(*options: str, processes: int = 2, module: str = "onereward") -> list[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [*launcher, *options, "-m", module]


def run_to_the_end(program: list[str], words: list[str], output: Path, *further: str) -> Path:
    command = [*program, *words, "--output", str(output), *further]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


class Started:
    """A command at work on a run folder; what it says goes into `said`. It is killed when the `with` block ends."""

    def __init__(self, program: list[str], words: list[str], run: Path, *further: str) -> None:
        self.run, self.said = run, run.with_suffix(".txt")
        self.process = subprocess.Popen(
            [*program, *words, "--output", str(run), *further],
            env=ENVIRONMENT,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=self.said.open("w"),
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def wait_until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 300
        while not reached():
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline, "no progress"
            time.sleep(0.01)

    def has_logged(self, lines: int) -> bool:
        log = self.run / "log.jsonl"
        return log.exists() and log.read_bytes().count(b"\n") >= lines

    def is_writing(self) -> bool:
        """Whether a checkpoint, not the first, is there by half."""
        folder = self.run / "checkpoints"
        return any(folder.glob("step-*.part/*")) and any(folder.glob("step-????????"))

    def kill(self) -> None:
        """SIGKILL to all of its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def kill_one(self, rank: int) -> None:
        """SIGKILL to one of torchrun's workers."""
        workers = psutil.Process(self.process.pid).children()
        [worker] = [each for each in workers if each.environ().get("RANK") == str(rank)]
        worker.kill()


@pytest.mark.parametrize("sharded", [False, True], ids=["replicated", "sharded"])
@pytest.mark.parametrize(
    ("algorithm", "processes"),
    [
        ("static weights", 2),
        pytest.param("static weights", 4, marks=pytest.mark.soak),
        pytest.param("static adapters", 2, marks=pytest.mark.soak),
        pytest.param("dynamic weights", 2, marks=pytest.mark.soak),
        pytest.param("dynamic adapters", 4, marks=pytest.mark.soak),
    ],
)
def test_several_processes_have_the_trace_of_one_in_float32(
    algorithm: str, processes: int, sharded: bool, words: list[str], whole: Start
) -> None:
    """One process accumulates four graded samples, two processes two each, four processes none."""
    one = whole(*ALGORITHMS[algorithm])
    laid_out = SHARDED if sharded else ()
    several = whole("--processes", str(processes), *ALGORITHMS[algorithm], *laid_out)
    assert_same_but_for_rounding(one, several, losses=1e-6, weights=1e-5)
    moved = distance_moved(one, words)
    print(f"a weight moved by up to {moved:.1e}")
    assert moved > 1e-3


def test_four_samples_at_once_are_four_accumulated(whole: Start) -> None:
    assert_same_but_for_rounding(whole(), whole("--set", "micro_batch=4"), losses=1e-6, weights=1e-5)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("algorithm", "processes", "sharded"),
    [
        ("static weights", 2, True),
        ("static weights", 4, False),
        ("dynamic adapters", 2, False),
        ("dynamic adapters", 4, True),
    ],
)
def test_under_torchrun_float64_shows_that_rounding_is_all_that_differs(
    algorithm: str, processes: int, sharded: bool, words: list[str], whole: Start, tmp_path: Path
) -> None:
    # What is recomputed on the way back would escape `Doubles`.
    further = (*ALGORITHMS[algorithm], "--set", "checkpointing=false", "--set", "precision=float64")
    program = torchrun(processes=processes, module="tests.train.command_in_double")
    several = run_to_the_end(program, words, tmp_path / "run", *further, *(["--sharded"] if sharded else []))
    assert {weight.dtype for weight in weights_of(several).values()} == {torch.float64}
    assert_same_but_for_rounding(whole(*further), several, losses=1e-12, weights=1e-12)


@pytest.mark.soak
def test_killed_at_random_points_it_ends_as_if_never_stopped(words: list[str], whole: Start, tmp_path: Path) -> None:
    """SIGKILL in and between updates, and while what is there is loaded: the same bits at the end."""
    random = Random(20261127)
    run = tmp_path / "run"
    for kill in range(KILLS):
        lines = len(log_of(run)) if (run / "log.jsonl").exists() else 0
        after = min(lines + random.randrange(1, 2 * STEPS // KILLS), STEPS - 1)
        with Started([sys.executable, "-m", "onereward"], words, run) as started:
            started.wait_until(partial(started.has_logged, after))
            time.sleep(random.random() * 0.5)
        print(f"kill {kill + 1}: after {len(log_of(run))} lines of the log")
    assert main([*words, "--output", str(run)]) == 0
    assert_equal_runs(whole(), run)


@pytest.mark.parametrize(
    "further",
    [
        (),
        pytest.param(ALGORITHMS["dynamic adapters"], marks=pytest.mark.soak),
        pytest.param(("--processes", "2", "--sharded"), marks=pytest.mark.soak),
        pytest.param(("--processes", "2", "--sharded", *ALGORITHMS["static adapters"]), marks=pytest.mark.soak),
    ],
    ids=["weights", "adapters", "sharded weights", "sharded adapters"],
)
def test_killed_while_a_checkpoint_is_written_it_goes_on_from_the_one_before(
    further: tuple[str, ...], words: list[str], whole: Start, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with Started([sys.executable, "-m", SLOW], words, run, *further) as started:
        started.wait_until(started.is_writing)
    assert started.is_writing()
    before = log_of(run)
    assert len(before) < STEPS
    assert main([*words, "--output", str(run), *further]) == 0
    assert log_of(run)[:EVERY] == before[:EVERY]  # with their seconds: these steps were not taken again
    assert_equal_runs(whole(*further), run)


@pytest.mark.parametrize(
    ("rank", "sharded"),
    [
        (1, True),
        pytest.param(0, True, marks=pytest.mark.soak),
        pytest.param(0, False, marks=pytest.mark.soak),
        pytest.param(1, False, marks=pytest.mark.soak),
    ],
)
def test_torchrun_goes_on_from_the_last_checkpoint_when_a_worker_is_killed(
    rank: int, sharded: bool, words: list[str], whole: Start, tmp_path: Path
) -> None:
    """It is killed while a checkpoint is written. torchrun's store still has the address of the dead one after that."""
    run, further = tmp_path / "run", SHARDED if sharded else ()
    with Started(torchrun("--max-restarts", "1", module=SLOW), words, run, *further) as started:
        started.wait_until(started.is_writing)
        started.kill_one(rank)
        before = log_of(run)
        assert len(before) < STEPS
        assert started.process.wait(300) == 0, started.said.read_text()
    assert log_of(run)[:EVERY] == before[:EVERY]  # with their seconds: these steps were not taken again
    assert "this is a bug" not in started.said.read_text()
    assert_equal_runs(whole("--processes", "2", *further), run)


def infinite_on_one(rank: int, judge: str) -> QwenVLJudge:
    """A judge that on the process of that rank finds everything infinitely good, of finite gradient."""
    loaded = load_qwen_vl(judge)
    if distributed.get_rank() == rank:
        ask = loaded.prob_yes_both_orders
        loaded.prob_yes_both_orders = lambda *images, **options: ask(*images, **options) - torch.inf  # type: ignore[method-assign]
    return loaded


@pytest.mark.soak
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("sharded", [False, True], ids=["replicated", "sharded"])
def test_a_loss_that_is_not_finite_on_one_process_alone_ends_them_all(
    rank: int, sharded: bool, words: list[str], tmp_path: Path
) -> None:
    [editor, judge] = (words[words.index(option) + 1] for option in ("--editor", "--judge"))
    small = {"batch": 2, "micro_batch": 1, "pixels": 1024, "reference_steps": 2, "policy_steps": 3, "steps": 2}
    config = replace(toy(), editor=editor, judge=judge, **small)  # type: ignore[arg-type]
    sources = Sources(
        editor=partial(load_flux_fill, editor, dtype=torch.float32),
        judge=partial(infinite_on_one, rank, judge),
        triplets=ToyScenes(),
    )
    with pytest.raises(NonFiniteError, match=r"step 1: the loss is inf .* there is no checkpoint yet"):
        train_rl(config, tmp_path / "run", sources, Means(processes=2, sharded=sharded))


@pytest.mark.soak
def test_a_missing_shard_of_a_checkpoint_is_named_with_the_way_out(
    words: list[str], whole: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    further = ["--processes", "2", "--sharded"]
    run = tmp_path / "run"
    shutil.copytree(whole(*further), run)
    shutil.rmtree(run / "final")
    last = run / "checkpoints" / f"step-{STEPS:08d}"
    shard = last / "__1_0.distcp"
    shard.unlink()
    assert main([*words, "--output", str(run), *further]) == 2
    way_out = f"cannot read {shard}, the file is missing; delete {last} to go on from the checkpoint before it"
    assert way_out in capsys.readouterr().err
    shutil.rmtree(last)
    assert main([*words, "--output", str(run), *further]) == 0
    assert_equal_runs(whole(*further), run)
