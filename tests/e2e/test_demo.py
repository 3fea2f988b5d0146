"""The whole loop in its quick form: it ends in a report, and killed anywhere it ends in the same one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

KILLS_AFTER = (6.0, 12.0, 20.0)  # seconds after each start: in other stages on other machines, with the same end


def start(output: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "onereward", "demo", "--quick", "--output", str(output)]
    log = (output.parent / f"{output.name}.log").open("ab")
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def figures(output: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output / "report.json").read_text())
    return {key: value for key, value in content.items() if key != "timing"}


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("demo") / "whole"
    assert start(output).wait() == 0, (output.parent / "whole.log").read_text()
    return output


def test_the_quick_demo_ends_in_a_report(uninterrupted: Path) -> None:
    content = figures(uninterrupted)
    assert {row["variant"] for row in content["judge"]} == {"untuned", "task_dimension", "fixed_query"}
    assert {row["editor"] for row in content["gsb"]} == {"algorithm-1", "algorithm-2"}
    assert {row["task"] for row in content["scores"]} == {"fill", "extend", "remove", "text"}
    assert all(row["normalised"] is not None for row in content["scores"])
    assert (uninterrupted / "report.html").stat().st_size > 100_000
    assert "Report:" in (uninterrupted.parent / "whole.log").read_text()


def test_killed_and_run_again_it_ends_with_the_same_figures(uninterrupted: Path) -> None:
    output = uninterrupted.parent / "killed"
    kills = 0
    for seconds in KILLS_AFTER:
        process = start(output)
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)  # the parent alone: its workers must end by themselves
            kills += 1
        process.wait()
    assert start(output).wait() == 0, (output.parent / "killed.log").read_text()
    assert kills > 0
    assert figures(output) == figures(uninterrupted)


def test_a_finished_demo_run_again_changes_nothing_but_takes_less(uninterrupted: Path) -> None:
    before = json.loads((uninterrupted / "report.json").read_text())
    assert start(uninterrupted).wait() == 0
    assert json.loads((uninterrupted / "report.json").read_text()) == before
