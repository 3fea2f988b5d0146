"""data import and data split as a user runs them; data toy is in test_stages.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from onereward.cli.main import main
from onereward.store.shards import read_records
from onereward.terms import Dimension, Preference, Task, VoterKind
from tests.readers.making import png, write_images, write_rows


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """40 rows of 20 source images, the last with an image that is not there."""
    write_images(tmp_path / "images", {f"{n}-{side}.png": png(n, level) for n in range(39) for level, side in
                                       enumerate(("better", "worse"))})  # fmt: skip
    rows = [
        {"chosen": f"{n}-better.png", "rejected": f"{n}-worse.png", "photo": f"photo {n // 2}", "prompt": "a red star"}
        for n in range(40)
    ]
    return write_rows(tmp_path / "rows.csv", rows)


def words_of(table: Path, output: Path, *more: str) -> list[str]:
    return [
        "data", "import", "table", "--input", str(table), "--output", str(output),
        "--images", str(table.parent / "images"),
        "--map", "winner=chosen", "--map", "loser=rejected", "--map", "source=photo", *more,
    ]  # fmt: skip


def test_a_file_becomes_splits_that_share_no_source(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(table, tmp_path / "all", "--task", "extend", "--dimension", "structure", "--voter-kind", "model")
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "output": str(tmp_path / "all"),
        "preferences": 39,
        "rows": 40,
        "corrupt": 1,
        "rejected": {"missing image file": 1},
        "ties_left_out": 0,
        "identical_left_out": 0,
    }
    split = ["data", "split", "--input", str(tmp_path / "all"), "--output", str(tmp_path / "splits")]
    assert main([*split, "--share", "train=.8", "--share", "validation=.2", "--json"]) == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)["splits"]
    rows = {name: list(read_records(tmp_path / "splits" / name, Preference)) for name in ("train", "validation")}
    assert {name: len(found) for name, found in rows.items()} == {
        name: printed[name]["preferences"] for name in printed
    }
    assert sum(len(found) for found in rows.values()) == 39 and 6 <= len(rows["validation"]) <= 10
    sources = {name: {row.source for row in found} for name, found in rows.items()}
    assert not sources["train"] & sources["validation"]
    assert {name: len(found) for name, found in sources.items()} == {name: printed[name]["groups"] for name in printed}
    row = next(row for found in rows.values() for row in found if row.source == "photo 3")
    assert (row.task, row.dimension, row.kind, row.prompt) == (
        Task.EXTEND, Dimension.STRUCTURE, VoterKind.MODEL, "a red star"
    )  # fmt: skip
    assert row.winner in (png(6, 0), png(7, 0)) and row.loser in (png(6, 1), png(7, 1))


def test_what_a_user_reads(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "all"
    assert main(words_of(table, output)) == 0
    assert capsys.readouterr().out == (
        f"39 preferences in {output}; 40 rows, 1 rejected (1 missing image file); {output}/rejected.jsonl lists the "
        "corrupt ones; left out: 0 ties, 0 pairs of one image\n"
    )
    listed = json.loads((output / "rejected.jsonl").read_text())
    assert listed == {"file": "rows.csv", "row": 40, "reason": "missing image file", "detail": "39-better.png"}
    split = ["data", "split", "--input", str(output), "--output", str(tmp_path / "splits")]
    assert main([*split, "--share", "train=.75", "--share", "validation=.25"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0].endswith(f"groups in {tmp_path / 'splits'}/train")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "import", "laion", "--input", "rows.csv", "--output", "x"], "invalid choice: 'laion'"),
        (["data", "import", "hpdv2", "--input", "rows.csv", "--output", "x"],
         "rows.csv has the columns chosen, rejected, photo, prompt; hpdv2 expects file_path, prompt, human_preference"),
        (["data", "import", "table", "--input", "gone.csv", "--output", "x"], "gone.csv: no such file"),
        (["data", "import", "table", "--input", "rows.csv", "--output", "x", "--map", "winner"], "got --map winner"),
        (["data", "import", "table", "--input", "rows.csv", "--output", "x", "--dimension", "beauty"],
         "unknown dimension 'beauty'; the dimensions are text_alignment"),
        (["data", "import", "table", "--input", "rows.csv", "--output", "x", *["--dimension", "structure"] * 2],
         "got --dimension structure twice"),
        (["data", "import", "table", "--input", "rows.csv", "--output", "x", "--images", "nowhere"],
         "nowhere: no such folder"),
        (["data", "import", "table", "--input", "rows.csv", "--output", "x", "--map", "winner=chosen", "--map",
          "loser=rejected", "--max-rejected", "7"], "got --max-rejected 7.0, expected a share from 0 to 1"),
        (["data", "split", "--input", "nowhere", "--output", "x", "--share", "train=1"], "no folder nowhere"),
        (["data", "split", "--input", "nowhere", "--output", "x", "--share", "train=most"],
         "got --share with 'most', expected SPLIT=SHARE, such as train=.9"),
        (["data", "split", "--input", "nowhere", "--output", "x", "--share", "train=.5"],
         "got the shares train=0.5, expected shares above 0 that sum to 1"),
    ],
)  # fmt: skip
def test_wrong_input_is_one_line_and_exit_code_2(
    table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "x").exists()


def test_splitting_something_else_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "toy", "--output", str(tmp_path / "pool"), "--count", "2"]) == 0
    words = ["data", "split", "--input", str(tmp_path / "pool"), "--output", str(tmp_path / "x"), "--share", "train=1"]
    assert main(words) == 2
    assert "holds Triplet records (stage data), expected Preference" in capsys.readouterr().err
