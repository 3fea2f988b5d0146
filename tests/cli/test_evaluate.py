import json
from pathlib import Path

import pytest

from onereward.cli.evaluate_judge import Row, rows_of
from onereward.cli.main import main
from onereward.metrics.records import Score
from onereward.query import Variant
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


def test_rows_of_the_judges_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "judge@home").mkdir()
    expected = {
        "toy": (None, "toy", None),
        "toy@pair": (None, "toy", Variant.PAIR),
        "runs/lr=1e-6/final": (None, "runs/lr=1e-6/final", None),
        "a=toy": ("a", "toy", None),
        "a=org/judge@fixed_query": ("a", "org/judge", Variant.FIXED_QUERY),
        "lr-1e-6=runs/lr=1e-6@pair": ("lr-1e-6", "runs/lr=1e-6", Variant.PAIR),
        "a=judge@home": ("a", "judge@home", None),
        "a=/home/me@work/judge": ("a", "/home/me@work/judge", None),
    }
    for text, (name, judge, variant) in expected.items():
        assert rows_of([text]) == [Row(name=name, judge=judge, variant=variant)]
    assert [row.name for row in rows_of(["a=toy", "b=toy@pair"])] == ["a", "b"]


@pytest.mark.parametrize(
    ("judges", "message"),
    [
        (["toy", "a=toy"], "got --judge toy, expected NAME=JUDGE"),
        (["a=toy", "a=other"], "got --judge a= twice"),
        (["a=toy@dimension"], "expected JUDGE@VARIANT with one of pair, task, task_dimension, fixed_query"),
        (["toy@"], "expected JUDGE@VARIANT"),
        (["a=@pair"], "expected JUDGE@VARIANT"),
        (["../a=toy", "b=toy"], "got the name ../a in --judge"),
        ([".=toy"], "got the name . in --judge"),
    ],
)
def test_a_wrong_row_is_one_line_and_exit_2(
    judges: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [word for judge in judges for word in ("--judge", judge)]
    assert main(["evaluate", "judge", "--input", str(tmp_path), "--output", str(tmp_path / "out"), *rows]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "out").exists()
