"""`onereward train-reward` as a user runs it."""

import json
from pathlib import Path

import pytest

from onereward.cli.main import main
from onereward.models.load_judge import load_qwen_vl
from tests.preferences import bright_preferences_folder
from tests.tiny_judge import tiny_judge_folder


def test_preferences_become_a_judge_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preferences = bright_preferences_folder(tmp_path / "preferences", 8)
    judge = tiny_judge_folder(tmp_path / "judge")
    words = ["train-reward", "toy", "--input", str(preferences), "--output", str(tmp_path / "run"), "--json"]
    words += ["--judge", str(judge), "--steps", "2", "--set", "batch=4", "--set", "variant=task"]
    assert main(words) == 0
    load_qwen_vl(json.loads(capsys.readouterr().out)["judge"])
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["variant"] == "task" and recorded["batch"] == 4
    assert main([*words, "--seed", "1"]) == 2
    assert "seed (there 0, now 1)" in capsys.readouterr().err


def test_the_config_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-reward", "qwen", "--print-config"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["batch"], printed["learning_rate"]) == (16, 1e-6)  # the paper's


def test_wrong_input_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-reward", "toy", "--output", str(tmp_path / "run")]) == 2
    assert "--input" in capsys.readouterr().err
    assert main(["train-reward", "toy", "--input", str(tmp_path / "none"), "--output", str(tmp_path / "run")]) == 2
    assert "no folder" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_wrong_judge_is_one_line_and_leaves_no_run_behind(
    processes: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    preferences = bright_preferences_folder(tmp_path / "preferences", 8)
    words = ["train-reward", "toy", "--input", str(preferences), "--output", str(tmp_path / "run")]
    assert main([*words, "--judge", str(tmp_path / "typo"), "--processes", processes]) == 2
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1 and "typo" in lines[0]
    assert not (tmp_path / "run").exists()
