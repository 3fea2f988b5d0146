"""Processes that share a global batch: their sums, and what is told when one of them fails."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from onereward.runtime.mesh import Mesh, launch


def _sum(mesh: Mesh) -> list[float]:
    return mesh.sum(torch.tensor([float(mesh.rank), 1.0])).tolist()


def _refuse(mesh: Mesh) -> None:
    if mesh.rank == 1:
        raise ValueError("the second process found a corrupt image")
    mesh.sum(torch.zeros(1))


def _be_killed(mesh: Mesh) -> None:
    if mesh.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    mesh.sum(torch.zeros(1))


def _stop_early(mesh: Mesh) -> None:
    if mesh.rank == 0:
        raise KeyboardInterrupt
    mesh.sum(torch.zeros(1))


@pytest.mark.parametrize("processes", [1, 2])
def test_every_process_takes_part_in_a_sum(processes: int) -> None:
    assert launch(processes, _sum) == [sum(range(processes)), processes]


def test_a_share_is_every_nth_slot() -> None:
    shares = [list(Mesh(rank=rank, size=2).share(5)) for rank in range(2)]
    assert shares == [[0, 2, 4], [1, 3]]


def test_the_error_of_a_further_process_is_raised_here_and_printed_nowhere(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="corrupt image"):
        launch(2, _refuse)
    assert "Traceback" not in capfd.readouterr().err


def test_a_killed_process_is_the_environments_fault() -> None:
    with pytest.raises(OSError, match="want of memory"):
        launch(2, _be_killed)


class _DiesAtItsStart:
    """In the process that it is sent to."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _die, ()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _never(mesh: Mesh, _what: _DiesAtItsStart) -> None:
    raise AssertionError("not all were there")


def test_a_process_that_is_killed_while_it_starts_is_not_waited_for() -> None:
    with pytest.raises(OSError, match="a process of the training was killed"):
        launch(2, _never, _DiesAtItsStart())


def test_an_interrupt_leaves_no_traceback_of_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        launch(2, _stop_early)
    assert "Traceback" not in capfd.readouterr().err


def test_torchrun_decides_how_many_processes_there_are(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "import torch\n"
        "from onereward.runtime.mesh import launch\n"
        "def work(mesh):\n"
        "    return mesh.sum(torch.ones(1)).item()\n"
        "total = launch(7, work)\n"
        "import os\n"
        "Path(sys.argv[1], os.environ['RANK']).write_text(str(total))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, str(script), str(tmp_path)], check=True, capture_output=True, timeout=120)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["2.0", "2.0"]


def test_under_torchrun_a_killed_process_is_the_environments_fault_too(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from onereward.runtime.mesh import launch\n"
        "def work(mesh):\n"
        "    mesh.wait()\n"
        "    if mesh.rank == 1:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"  # torchrun's, which comes as soon
        "    mesh.wait()\n"
        "try:\n"
        "    launch(1, work)\n"
        "except OSError as error:\n"
        "    Path(sys.argv[1]).write_text(str(error))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, str(script), str(tmp_path / "said")], capture_output=True, timeout=120)
    assert "another process of the training is gone" in (tmp_path / "said").read_text()
