import json
from pathlib import Path

import pytest

from onereward.cli.main import main
from onereward.metrics.records import Answer
from onereward.store.shards import run_stage
from onereward.terms import Dimension, Task
from tests.report.test_content import Config


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    row = Answer(
        triplet_id="t",
        task=Task.FILL,
        dimension=Dimension.STRUCTURE,
        variant="untuned",
        winner_first=1.0,
        loser_first=-1.0,
    )
    folder = tmp_path / "answers"
    run_stage(folder, kind=Answer, stage="judge", config=Config(), inputs={}, shard_count=1, make_shard=lambda _: [row])
    return folder


def test_report_writes_both_files_and_prints_the_table(
    answers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report"
    assert main(["report", "--answers", str(answers), "--output", str(output)]) == 0
    assert "Judge accuracy" in capsys.readouterr().out
    content = json.loads((output / "report.json").read_text())
    assert content["judge"][0]["accuracy"] == 1.0
    assert "Judge accuracy" in (output / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to report on"),
        (["--run", "rl"], "expected NAME=RUN"),
        (["--answers", "missing"], "no folder missing"),
        (["--run", "algorithm-1=missing"], "no log.jsonl"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2_and_writes_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", *arguments, "--output", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert not (tmp_path / "out").exists()
