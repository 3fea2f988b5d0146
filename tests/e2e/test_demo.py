"""The whole loop in its quick form: it ends in a report, and killed anywhere it ends in the same one."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from onereward.cli.main import main


def words(output: Path) -> list[str]:
    return ["demo", "--quick", "--output", str(output)]


def start(output: Path) -> "subprocess.Popen[bytes]":
    log = (output.parent / f"{output.name}.log").open("ab")
    command = [sys.executable, "-m", "onereward", *words(output)]
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def figures(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "report.json").read_text())
    return {key: value for key, value in content.items() if key != "timing"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In this process, whose imports are paid for; what it prints is beside it in `whole.log`."""
    output = tmp_path_factory.mktemp("demo") / "whole"
    with redirect_stdout(io.StringIO()) as printed:
        assert main(words(output)) == 0
    (output.parent / "whole.log").write_text(printed.getvalue())
    return output


def test_the_quick_demo_ends_in_a_report(uninterrupted: Path) -> None:
    content = figures(uninterrupted)
    assert {row["variant"] for row in content["judge"]} == {"untuned", "task_dimension", "fixed_query"}
    assert {row["editor"] for row in content["gsb"]} == {"algorithm-1", "algorithm-2"}
    assert {row["task"] for row in content["scores"]} == {"fill", "extend", "remove", "text"}
    assert all(row["normalised"] is not None for row in content["scores"])
    assert (uninterrupted / "report.html").stat().st_size > 100_000
    assert "Report:" in (uninterrupted.parent / "whole.log").read_text()


@pytest.mark.parametrize(
    ("done", "kills_after"),
    [(("train", "test"), (12.0,)), pytest.param((), (6.0, 12.0, 20.0), marks=pytest.mark.soak)],
    ids=["once", "three times"],
)
def test_killed_and_run_again_it_ends_with_the_same_figures(
    uninterrupted: Path, tmp_path: Path, done: tuple[str, ...], kills_after: tuple[float, ...]
) -> None:
    """Killed so many seconds after each start: in other stages on other machines, with the same end.

    The short form begins with what the stages up to the votes made; `generate` has its own test of kills.
    """
    output = tmp_path / "killed"
    for folder in done:
        copytree(uninterrupted / folder, output / folder)
    kills = 0
    for seconds in kills_after:
        process = start(output)
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must end by themselves
            kills += 1
        process.wait()
    assert main(words(output)) == 0
    assert kills > 0
    assert figures(output) == figures(uninterrupted)


def test_a_finished_demo_run_again_changes_nothing_but_takes_less(uninterrupted: Path) -> None:
    before = json.loads((uninterrupted / "report.json").read_text())
    assert main(words(uninterrupted)) == 0
    assert json.loads((uninterrupted / "report.json").read_text()) == before
