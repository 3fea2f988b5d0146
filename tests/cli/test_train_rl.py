"""`onereward train-rl` as a user runs it, on a tiny editor and a tiny judge."""

import json
from pathlib import Path

import pytest

from onereward.cli.main import main
from onereward.models.load import load_flux_fill
from tests.tiny import tiny_flux_fill_folder
from tests.tiny_judge import tiny_judge_folder


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of two steps on a folder's triplets, up to its --output."""
    folder = tmp_path_factory.mktemp("models")
    assert main(["data", "toy", "--output", str(folder / "pool"), "--count", "16"]) == 0
    words = ["train-rl", "toy", "--input", str(folder / "pool"), "--probe", str(folder / "pool"), "--steps", "2"]
    words += ["--editor", str(tiny_flux_fill_folder(folder / "editor"))]
    words += ["--judge", str(tiny_judge_folder(folder / "judge"))]
    for setting in ("batch=2", "micro_batch=2", "reference_steps=3", "policy_steps=3", "jump_range=[0.1,0.7]"):
        words += ["--set", setting]
    return words


@pytest.mark.parametrize("dynamic", [[], ["--dynamic"]])
def test_triplets_and_a_judge_become_an_editor(
    words: list[str], dynamic: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *dynamic, "--output", str(tmp_path / "run"), "--json"]) == 0
    load_flux_fill(json.loads(capsys.readouterr().out)["editor"])
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())
    assert recorded["dynamic"] is bool(dynamic) and recorded["drawn_from"].startswith("triplets ")
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert set(last["win_rate"]) == {"fill", "extend", "remove", "text"}


def test_the_config_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train-rl", "toy", "--print-config", "--dynamic", "--set", "bound=.5"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["dynamic"] is True and printed["bound"] == 0.5


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("jump_range=[0.95,0.96]", "no sampling step has a time in"),
        ("batch=0", "got batch 0, expected 1 or more"),
        ("threads=0", "got threads 0"),
        ("decay=1.5", "a number from 0 to 1"),
    ],
)
def test_wrong_input_leaves_no_run_behind(
    words: list[str], setting: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--set", setting, "--output", str(tmp_path / "run")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "run").exists()


def test_a_task_that_has_no_triplet_shows_before_the_first_step(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "toy", "--output", str(tmp_path / "two"), "--count", "2"]) == 0
    other = [str(tmp_path / "two") if word.endswith("pool") else word for word in words]
    assert main([*other, "--output", str(tmp_path / "run")]) == 2
    assert "no triplet has task remove" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
