"""Checkpoints: copied at once and written meanwhile, whole or absent whatever fails, the last few kept."""

import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from onereward.runtime import checkpoint
from onereward.runtime.checkpoint import Checkpoints, TrainedParameters
from onereward.runtime.mesh import Mesh, launch
from onereward.runtime.shard import shard
from onereward.runtime.threads import torch_threads
from onereward.runtime.update import Updater


class Holder:
    """A part that keeps what it is given."""

    def __init__(self, value: float, count: int = 3) -> None:
        self.state: dict[str, Any] = {"weights": torch.full((count,), value), "steps": [torch.tensor(value)]}

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        self.state = state_dict


def value_of(folder: Path, step: int) -> float:
    """What the part called `part` holds in a checkpoint: one value everywhere."""
    holder = Holder(0.0)
    Checkpoints(folder, keep=1).load(step, {"part": holder})
    weights = holder.state["weights"]
    assert weights.unique().tolist() == [holder.state["steps"][0].item()]
    return float(weights[0])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


def steps_until_told(checkpoints: Checkpoints) -> None:
    """Steps of a tenth of a second, each of which checks."""
    for _ in range(100):
        checkpoints.check()
        time.sleep(0.1)


@contextmanager
def small_files() -> Iterator[None]:
    """Inside, the system refuses a file of more than 100 KB: what stands for a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_last_whole_checkpoint_is_loaded_and_older_ones_dropped(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    assert checkpoints.load_last({"part": Holder(0.0)}) == 0
    for step in (1, 2, 3):
        checkpoints.save(step, {"part": Holder(float(step))}, also_keep=[1] if step < 3 else [])
    (tmp_path / "step-00000004.part").mkdir()
    assert checkpoints.steps() == [2, 3]
    holder = Holder(0.0)
    assert checkpoints.load_last({"part": holder}) == 3
    assert holder.state["weights"].tolist() == [3.0] * 3 and holder.state["steps"][0].item() == 3.0


def test_a_step_is_kept_as_long_as_it_is_asked_for(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    for step in (1, 2, 3):
        checkpoints.save(step, {"part": Holder(float(step))}, also_keep=[1])
    assert checkpoints.steps() == [1, 3]


def test_what_is_written_is_the_state_at_the_time_of_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is written only when the weights have changed in place; tied tensors are still one in the file."""
    changed, write = threading.Event(), torch.save

    def after_the_change(*arguments: Any) -> None:
        assert changed.wait(timeout=60)
        write(*arguments)

    monkeypatch.setattr(torch, "save", after_the_change)
    holder = Holder(1.0, count=10_000)
    holder.state["tied"] = holder.state["weights"]
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, {"part": holder})
        checkpoints.check()
        assert names(tmp_path) in ([], ["step-00000001.part"])
        holder.state["weights"].fill_(2.0)
        holder.state["steps"].append(torch.tensor(5.0))
        changed.set()
    assert value_of(tmp_path, 1) == 1.0
    assert (tmp_path / "step-00000001" / "part.pt").stat().st_size < 1.2 * 4 * 10_000


def test_a_run_that_goes_back_loads_the_last_one_even_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = torch.save
    monkeypatch.setattr(torch, "save", lambda *arguments: [time.sleep(0.1), write(*arguments)])
    checkpoints, holder = Checkpoints(tmp_path, keep=3), Holder(0.0)
    for step in (10, 20, 30):
        checkpoints.save(step, {"part": Holder(float(step))})
    checkpoints.load(30, {"part": holder})
    assert holder.state["weights"].tolist() == [30.0] * 3
    checkpoints.save(20, {"part": Holder(21.0)}, also_keep=[30])
    assert checkpoints.load_last({"part": holder}) == 20 and holder.state["weights"].tolist() == [21.0] * 3
    assert names(tmp_path) == ["step-00000010", "step-00000020"]
    checkpoints.save(20, {"part": Holder(22.0)})
    checkpoints.wait()
    assert names(tmp_path) == ["step-00000010", "step-00000020"] and value_of(tmp_path, 20) == 22.0
    with pytest.raises(ValueError, match=r"no checkpoint of step 30 .*only of \[10, 20\]"):
        checkpoints.load(30, {"part": holder})


@pytest.mark.parametrize("failing", ["a part", "the publishing"])
def test_a_failed_write_surfaces_at_the_next_step_and_names_the_good_one(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, {"part": Holder(1.0)})
    checkpoints.wait()
    with monkeypatch.context() as patch:
        patch.setattr(*((torch, "save") if failing == "a part" else (checkpoint, "publish")), no_room)
        checkpoints.save(2, {"part": Holder(2.0)})
        with pytest.raises(OSError, match=r"of step 2 .*\(no space left on device\); that of step 1 is good"):
            steps_until_told(checkpoints)
    assert names(tmp_path) == ["step-00000001"] and value_of(tmp_path, 1) == 1.0
    checkpoints.save(2, {"part": Holder(2.0)})
    assert checkpoints.steps() == [2]


def test_a_file_that_cannot_grow_is_the_systems_error(tmp_path: Path) -> None:
    """Of which torch would tell positions only."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, {"part": Holder(1.0)})
    checkpoints.wait()
    with small_files():
        checkpoints.save(2, {"part": Holder(2.0, count=1 << 20)})
        with pytest.raises(OSError, match=r"of step 2 .*\(file too large\); that of step 1 is good"):
            checkpoints.wait()
    assert names(tmp_path) == ["step-00000001"]


def test_the_first_write_may_fail_too_and_an_error_of_the_run_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch, "save", no_room)
    with pytest.raises(OSError, match="there is none before it"), Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, {"part": Holder(1.0)})
    checkpoints.save(2, {"part": Holder(2.0)})
    with pytest.raises(ZeroDivisionError), checkpoints:
        raise ZeroDivisionError
    assert "of step 2" in caplog.text


KILLED = """
import shutil, sys, time
from pathlib import Path
import torch
from onereward.runtime import checkpoint
from tests.runtime.test_checkpoint import Holder

def stop(at):
    (Path(sys.argv[1]) / f"{at}-reached").touch()
    time.sleep(600)

def save(state, file):
    if "writing/step-00000002" in file.name:
        file.write(b"half")
        file.flush()
        stop("writing")
    true_save(state, file)

def publish(part, folder):
    if "publishing/step-00000002" in str(part):
        stop("publishing")
    true_publish(part, folder)

def rmtree(folder, **options):
    if "dropping/step-00000001" in str(folder) and Path(folder).exists():
        next(Path(folder).iterdir()).unlink()
        stop("dropping")
    true_rmtree(folder, **options)

true_save, true_publish, true_rmtree = torch.save, checkpoint.publish, shutil.rmtree
all_runs = [checkpoint.Checkpoints(Path(sys.argv[1]) / at, keep=1) for at in ("writing", "publishing", "dropping")]
for checkpoints in all_runs:
    checkpoints.save(1, {"part": Holder(1.0)})
    checkpoints.wait()
torch.save, checkpoint.publish, shutil.rmtree = save, publish, rmtree
for checkpoints in all_runs:
    checkpoints.save(2, {"part": Holder(2.0)})
time.sleep(600)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a process that was killed when it had three checkpoints of step 2 in hand."""
    folder, deadline = tmp_path_factory.mktemp("killed"), time.monotonic() + 120
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen([sys.executable, "-c", KILLED, folder], env=environment)
    try:
        while len(list(folder.glob("*-reached"))) < 3:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    return folder


@pytest.mark.parametrize(
    ("moment", "step"),
    [
        ("writing", 1),  # half a file
        ("publishing", 1),  # all files, but not their name
        ("dropping", 2),  # half of the old checkpoint is gone
    ],
)
def test_a_process_killed_at_any_moment_of_a_write_leaves_only_whole_checkpoints(
    moment: str, step: int, killed: Path
) -> None:
    folder = killed / moment
    assert any(name.endswith(".part") for name in names(folder))
    checkpoints = Checkpoints(folder, keep=1)
    assert checkpoints.steps() == [step] and value_of(folder, step) == step
    checkpoints.save(5, {"part": Holder(5.0)})
    checkpoints.wait()
    assert names(folder) == ["step-00000005"]


def test_a_damaged_or_missing_file_names_the_way_out(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, {"part": Holder(1.0)})
    checkpoints.wait()
    file = tmp_path / "step-00000001" / "part.pt"
    for damage, state in ((lambda: file.write_bytes(b"damaged"), "damaged"), (file.unlink, "missing")):
        damage()
        with pytest.raises(ValueError, match=rf"cannot read .*part.pt, the file is {state}; delete .*step-00000001"):
            checkpoints.load_last({"part": Holder(0.0)})


def test_the_thread_count_is_restored(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    with torch_threads(1):
        checkpoints.save(1, {"part": Holder(1.0)})
    with torch_threads(2):
        checkpoints.load_last({"part": Holder(0.0)})
        assert torch.get_num_threads() == 1


class Count:
    """A part that is no tensor, as the best validation so far."""

    def __init__(self) -> None:
        self.value = 0

    def state_dict(self) -> dict[str, Any]:
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        self.value = state["value"]


class Split:
    """A small model split over the processes, with its optimizer, after one step."""

    def __init__(self, mesh: Mesh) -> None:
        torch.manual_seed(3)
        self.module = nn.Linear(5, 20_000)  # shards of 200 KB
        shard(mesh, self.module, [], torch.device("cpu"), bfloat16=False)
        self.updater = Updater(self.module, learning_rate=0.1, weight_decay=0.0, clip=1.0)
        self.count = Count()
        self.parts = {"model": TrainedParameters(self.module), "optimizer": self.updater, "count": self.count}

    def step(self) -> list[torch.Tensor]:
        """One update; returns this process's share of the weights and of the optimizer's averages."""
        self.updater(iter([self.module(torch.ones(2, 5)).square().sum()]))
        self.count.value += 1
        state = self.updater.state_dict()["state"]
        tensors = [*self.module.parameters(), *(state[name]["exp_avg"] for name in state)]
        return [tensor.detach().to_local().clone() for tensor in tensors]


def _split(mesh: Mesh, folder: Path) -> list[str]:
    """Saves, goes on, and goes back; then with no room on one disk, then with damaged files. Returns what was told."""
    split, checkpoints = Split(mesh), Checkpoints(folder, keep=1, sharded=True)
    split.step()
    checkpoints.save(1, split.parts)
    after_two = split.step()  # changes in place what is being written
    checkpoints.check()
    split.step()
    checkpoints.load(1, split.parts)
    assert split.count.value == 1
    assert all(torch.equal(one, two) for one, two in zip(split.step(), after_two, strict=True))

    with small_files() if mesh.rank == 1 else nullcontext():
        checkpoints.save(2, split.parts)
        told = [_told(checkpoints.wait)]
    mesh.wait()
    assert names(folder) == ["step-00000001"]
    mesh.wait()
    checkpoints.save(2, split.parts)
    assert checkpoints.steps() == [2]

    for name in ("__1_0.distcp", ".metadata"):
        file = folder / "step-00000002" / name
        for content in (None, file.read_bytes()[:-200], file.read_bytes()):
            _leave(mesh, file, content)
            told.append(_told(checkpoints.load_last, split.parts))
    return told


def _leave(mesh: Mesh, file: Path, content: bytes | None) -> None:
    """One process changes a file, or removes it, while none looks."""
    mesh.wait()
    if mesh.rank == 0 and content is None:
        file.unlink()
    elif mesh.rank == 0 and content is not None:
        file.write_bytes(content)
    mesh.wait()


def _told(work: Any, *arguments: Any) -> str:
    try:
        return str(work(*arguments))
    except (OSError, ValueError) as error:
        return f"{type(error).__name__}: {error}"


def _gathered(mesh: Mesh, folder: Path) -> list[list[str]]:
    return mesh.gather([_split(mesh, folder)])


def test_a_split_model_is_written_meanwhile_and_every_process_learns_of_a_failure(tmp_path: Path) -> None:
    told, same = launch(2, _gathered, tmp_path)
    assert told == same
    too_large, no_shard, short_shard, mended, no_index, short_index, mended_again = told
    assert re.match(r"OSError: .* of step 2 .*\(file too large\); that of step 1 is good", too_large)
    way_out = f"delete {tmp_path / 'step-00000002'} to go on from the checkpoint before it"
    assert f"__1_0.distcp, the file is missing; {way_out}" in no_shard
    assert f"__1_0.distcp, the file is damaged; {way_out}" in short_shard
    assert f".metadata, the file is missing; {way_out}" in no_index
    assert f".metadata, the file is damaged; {way_out}" in short_index
    assert mended == mended_again == "2"
    with pytest.raises(ValueError, match="written by 2 processes with --sharded: go on with the same"):
        Checkpoints(tmp_path, keep=1).load_last({"model": Holder(0.0)})


def _killed_in_the_background(mesh: Mesh, folder: Path) -> None:
    split = Split(mesh)
    with Checkpoints(folder, keep=1, sharded=True) as checkpoints:
        checkpoints.save(1, split.parts)
        checkpoints.wait()
        if mesh.rank == 1:
            checkpoint.torch.save = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        checkpoints.save(2, split.parts)


def test_a_process_that_dies_in_a_write_ends_the_run_at_once(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(OSError, match="want of memory"):
        launch(2, _killed_in_the_background, tmp_path)
    assert time.monotonic() - started < 60
    assert Checkpoints(tmp_path, keep=1).steps() == [1]
