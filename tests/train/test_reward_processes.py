"""The judge's training as people start it: under torchrun, sharded or not, and killed at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file

from onereward.cli.main import main
from tests.preferences import packed_preferences_folder
from tests.stock_judge import Doubles
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


Log = list[dict[str, float]]


def _here(words: list[str], output: Path, *further: str) -> Path:
    """Runs a command to its end in this process, whose imports are paid for."""
    assert main([*words, "--output", str(output), *further]) == 0
    return output


def _under_torchrun(module: str, words: list[str], output: Path, *further: str) -> Path:
    """Runs a command to its end as two processes."""
    command = [*_torchrun(module), *words, "--output", str(output), *further]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output


def _log(run: Path) -> Log:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def _torchrun(module: str = "onereward") -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*torchrun, "-m", module]


def _relative(one: Log, two: Log) -> float:
    """The largest relative difference of two traces of losses of the same length."""
    return max(abs(a["loss"] / b["loss"] - 1) for a, b in zip(one, two, strict=True))


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The run on one process, never stopped, in each precision."""
    runs = {}
    for precision, lifted in (("float32", nullcontext()), ("float64", Doubles())):
        with lifted:
            run = tmp_path_factory.mktemp("whole") / precision
            runs[precision] = _here(words, run, "--set", f"precision={precision}")
    return runs


Two = Callable[[str, bool, int], Path]


@pytest.fixture(scope="module")
def two(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Two:
    """`two(precision, sharded, lora_rank)`: the run on two processes under torchrun, never stopped, made once."""

    @cache
    def run(precision: str, sharded: bool, lora_rank: int) -> Path:
        module = "tests.train.command_in_double" if precision == "float64" else "onereward"
        further = _settings(precision, sharded, lora_rank)
        return _under_torchrun(module, words, tmp_path_factory.mktemp("two") / "run", *further)

    return run


def _settings(precision: str, sharded: bool, lora_rank: int = 0) -> list[str]:
    changes = ["--set", f"precision={precision}", "--set", f"lora_rank={lora_rank}"]
    return [*changes, *(["--sharded"] if sharded else [])]


@pytest.mark.parametrize(
    ("precision", "bound", "sharded"),
    [
        ("float32", 1e-6, True),
        pytest.param("float64", 1e-12, False, marks=pytest.mark.soak),
        pytest.param("float32", 1e-6, False, marks=pytest.mark.soak),
        pytest.param("float64", 1e-12, True, marks=pytest.mark.soak),
    ],
)
def test_two_processes_under_torchrun_have_the_trace_of_one(
    precision: str, bound: float, sharded: bool, whole: dict[str, Path], two: Two
) -> None:
    alone, shared = whole[precision], two(precision, sharded, 0)
    one, other = _log(alone), _log(shared)
    assert len(one) == STEPS
    difference = _relative(one, other)
    print(f"{precision}, {'sharded' if sharded else 'replicated'}: largest relative difference {difference:.1e}")
    assert difference <= bound
    assert [line["accuracy"] for line in one] == [line["accuracy"] for line in other]
    assert one[-1]["validation"] == other[-1]["validation"]
    first, second = (load_file(run / "final" / "model.safetensors") for run in (alone, shared))
    assert first.keys() == second.keys()
    moved = 1e-4 * STEPS
    assert max((first[name] - second[name]).abs().max().item() for name in first) < 0.1 * moved


@pytest.mark.parametrize("lora_rank", [0, pytest.param(4, marks=pytest.mark.soak)], ids=["weights", "adapters"])
def test_a_sharded_run_stopped_and_resumed_equals_one_never_stopped(
    lora_rank: int, words: list[str], two: Two, tmp_path: Path
) -> None:
    run, further = tmp_path / "killed", _settings("float32", True, lora_rank)
    _kill(_start(_torchrun(), words, run, *further), run, after=5, delay=0.1)
    _under_torchrun("onereward", words, run, *further)
    never_stopped = two("float32", True, lora_rank)
    assert _log(run) == _log(never_stopped)
    _assert_equal_models(never_stopped, run)


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
        _kill(_start([sys.executable, "-m", "onereward"], words, run), run, after=after, delay=random.random() * 0.5)
        print(f"kill {kill + 1}: after {len(_log(run))} lines of the log")
    assert _log(_here(words, run)) == _log(whole["float32"])
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
