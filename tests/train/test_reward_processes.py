"""The judge's training as people start it: under torchrun, sharded or not, and killed at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file

from tests.preferences import packed_preferences_folder
from tests.tiny_judge import tiny_judge_folder

ROOT = Path(__file__).parents[2]
STEPS = 20
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A small run: 20 updates on 24 pairs of two sizes, all dimensions of a pair asked at once, ties among them."""
    preferences = packed_preferences_folder(tmp_path_factory.mktemp("preferences"), 24)
    validation = packed_preferences_folder(tmp_path_factory.mktemp("validation"), 5)
    judge = tiny_judge_folder(tmp_path_factory.mktemp("judge"))
    changes = ("optimizer=adamw", "learning_rate=1e-4", "batch=8", "micro_batch=2", "warm_up=4", "tie_weight=0.5")
    changes += ("validate_every=10", "checkpoint_every=3")
    return [
        *("train-reward", "toy", "--input", str(preferences), "--validation", str(validation)),
        *("--judge", str(judge), "--steps", str(STEPS), "-q"),
        *(word for change in changes for word in ("--set", change)),
    ]


def _run(program: list[str], words: list[str], output: Path, *further: str) -> list[dict[str, float]]:
    """Runs a command to its end and returns its log."""
    done = subprocess.run(
        [*program, *words, "--output", str(output), *further], env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return _log(output)


def _log(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def _one(module: str = "onereward") -> list[str]:
    return [sys.executable, "-m", module]


def _torchrun(module: str = "onereward") -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*torchrun, "-m", module]


def _relative(one: list[dict[str, float]], two: list[dict[str, float]]) -> float:
    """The largest relative difference of two traces of losses of the same length."""
    return max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(one, two, strict=True))


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run on one process, never stopped, in each precision."""
    runs = {precision: tmp_path_factory.mktemp("whole") / precision for precision in ("float32", "float64")}
    for precision, run in runs.items():
        _run(_one(_module(precision)), words, run, "--set", f"precision={precision}")
    return runs


def _module(precision: str) -> str:
    return "tests.train.command_in_double" if precision == "float64" else "onereward"


@pytest.mark.parametrize("sharded", [False, True], ids=["replicated", "sharded"])
@pytest.mark.parametrize(("precision", "bound"), [("float32", 1e-6), ("float64", 1e-12)])
def test_two_processes_under_torchrun_have_the_trace_of_one(
    precision: str, bound: float, sharded: bool, words: list[str], whole: dict[str, Path], tmp_path: Path
) -> None:
    further = ["--set", f"precision={precision}", *(["--sharded"] if sharded else [])]
    one = _log(whole[precision])
    two = _run(_torchrun(_module(precision)), words, tmp_path / "two", *further)
    assert len(one) == STEPS
    difference = _relative(one, two)
    print(f"{precision}, {'sharded' if sharded else 'replicated'}: largest relative difference {difference:.1e}")
    assert difference <= bound
    assert [line["accuracy"] for line in one] == [line["accuracy"] for line in two]
    assert one[-1]["validation"] == two[-1]["validation"]
    weights, shared = (load_file(run / "final" / "model.safetensors") for run in (whole[precision], tmp_path / "two"))
    assert weights.keys() == shared.keys()
    moved = 1e-4 * STEPS
    assert max((weights[name] - shared[name]).abs().max().item() for name in weights) < 0.1 * moved


@pytest.mark.parametrize("lora_rank", [0, 4], ids=["weights", "adapters"])
def test_a_sharded_run_stopped_and_resumed_equals_one_never_stopped(
    lora_rank: int, words: list[str], tmp_path: Path
) -> None:
    further = ["--sharded", "--steps", "8", "--set", f"lora_rank={lora_rank}", "--set", "precision=float32"]
    whole = _run(_torchrun(), words, tmp_path / "whole", *further)
    killed = _start(_torchrun(), words, tmp_path / "killed", *further)
    _kill(killed, tmp_path / "killed", after=5, delay=0.1)
    assert _run(_torchrun(), words, tmp_path / "killed", *further) == whole
    _assert_equal_models(tmp_path / "whole", tmp_path / "killed")


KILLS = 5


@pytest.mark.parametrize("kills", [1, pytest.param(KILLS, marks=pytest.mark.soak)])
def test_killed_at_random_points_it_ends_as_if_never_stopped(
    kills: int, words: list[str], whole: dict[str, Path], tmp_path: Path
) -> None:
    """SIGKILL between updates, in one, while a checkpoint or the final judge is written: the same bits at the end."""
    random = Random(20261124)
    words = [*words, "--set", "precision=float32"]
    run = tmp_path / "killed"
    for kill in range(kills):
        lines = len(_log(run)) if (run / "log.jsonl").exists() else 0
        after = min(lines + random.randrange(1, 2 * STEPS // kills), STEPS)
        _kill(_start(_one(), words, run), run, after=after, delay=random.random() * 0.5)
        print(f"kill {kill + 1}: after {len(_log(run))} lines of the log")
    assert _run(_one(), words, run) == _log(whole["float32"])
    _assert_equal_models(whole["float32"], run)


def _start(program: list[str], words: list[str], output: Path, *further: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*program, *words, "--output", str(output), *further],
        env=ENVIRONMENT,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _kill(process: "subprocess.Popen[bytes]", run: Path, *, after: int, delay: float) -> None:
    """SIGKILL to all of its processes, `delay` seconds after the log had `after` lines."""
    log, deadline = run / "log.jsonl", time.monotonic() + 240
    while not (log.exists() and log.read_bytes().count(b"\n") >= after):
        assert process.poll() is None, f"it ended with {process.returncode} before step {after}"
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.01)
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _assert_equal_models(one: Path, two: Path) -> None:
    names = sorted(path.name for path in (one / "final").glob("*.safetensors"))
    assert names
    for name in names:
        first, second = load_file(one / "final" / name), load_file(two / "final" / name)
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
