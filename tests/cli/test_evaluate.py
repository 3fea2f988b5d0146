import json
from pathlib import Path

import pytest

from onereward.cli.main import main
from onereward.metrics.records import Score
from onereward.store.shards import read_records
from onereward.toy.pool import ToyPoolConfig, write_toy_pool
from onereward.toy.scenes import Split
from tests.tiny import tiny_flux_fill_folder


def test_evaluate_editor_writes_scores_of_every_editor_and_both_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    editor = tiny_flux_fill_folder(tmp_path / "editor")
    write_toy_pool(tmp_path / "triplets", ToyPoolConfig(split=Split.TEST, count=3))
    command = ["evaluate", "editor", "--input", str(tmp_path / "triplets"), "--output", str(tmp_path / "scores")]
    assert main([*command, "--editor", f"base={editor}", "--steps", "1", "--json"]) == 0
    scores = list(read_records(tmp_path / "scores" / "scores", Score))
    assert json.loads(capsys.readouterr().out)["scores"] == len(scores)
    assert {score.editor for score in scores} == {"hole", "base", "ceiling"}
    assert {score.scorer for score in scores} == {"toy-oracle"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--editor", "toy"], "expected NAME=EDITOR"),
        (["--editor", "base=toy", "--editor", "base=other"], "got --editor base= twice"),
        (["--editor", "base=toy", "--workers", "0"], "expected 1 or more"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "editor", "--input", str(tmp_path), "--output", str(tmp_path / "out"), *arguments]) == 2
    assert message in capsys.readouterr().err
