import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onereward.metrics.records import Answer, Edit, Score
from onereward.report import ReportInputs, TimeRow, read_report
from onereward.report.curves import read_curves, smoothed
from onereward.store.images import encode_png
from onereward.store.shards import run_stage
from onereward.terms import Dimension, Task
from tests.metrics.answers import answer


@dataclass(frozen=True, kw_only=True)
class Config:
    flavour: str = "plain"


def write(folder: Path, kind: type[Any], records: list[Any]) -> Path:
    run_stage(
        folder, kind=kind, stage=kind.__name__, config=Config(), inputs={}, shard_count=1, make_shard=lambda _: records
    )
    return folder


def write_log(run: Path, lines: list[dict[str, Any]]) -> Path:
    run.mkdir()
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (run / "config.json").write_text('{"bound": 0.6}')
    return run


def test_rows_come_from_the_folders(tmp_path: Path) -> None:
    names = {"hole": 0.1, "base": 0.5, "algorithm-1": 0.7, "ceiling": 0.9}
    cell: dict[str, Any] = {"task": Task.REMOVE, "dimension": Dimension.REMOVAL_QUALITY}
    picture = encode_png(Image.new("RGB", (4, 4)))
    edits = [
        Edit(triplet_id=f"t{i}", task=Task.REMOVE, prompt="remove", editor=name, image=picture, drift=2.0, seed=i)
        for i in range(6)
        for name in names
    ]
    scores = [
        Score(triplet_id=f"t{i}", editor=name, scorer="oracle", value=value, dead_band=0.05, **cell)
        for i in range(6)
        for name, value in names.items()
    ]
    answers = [Answer(triplet_id=f"t{i}", variant="untuned", winner_first=1, loser_first=-1, **cell) for i in range(3)]
    run = write_log(tmp_path / "rl", [{"step": 1, "task": "remove", "reward": {"removal_quality": 0.4}}])
    (tmp_path / "skips.json").write_text(json.dumps({"skips": [{**cell, "votes": 8, "skips": 2, "share": 0.25}]}))
    report = read_report(
        ReportInputs(
            edits=write(tmp_path / "edits", Edit, edits),
            scores=write(tmp_path / "scores", Score, scores),
            answers=(write(tmp_path / "answers", Answer, answers),),
            runs={"algorithm-1": run},
            skips=tmp_path / "skips.json",
            timing=[TimeRow(stage="generate", seconds=3.5, budget=None)],
        )
    )
    assert [(row.variant, row.n, row.accuracy) for row in report.judge] == [("untuned", 3, 1.0)]
    assert {(row.editor, row.good, row.net) for row in report.gsb} == {("algorithm-1", 6, 1.0)}
    base, rival = report.scores
    assert (base.editor, base.normalised) == ("base", pytest.approx(0.5))
    assert (rival.difference, rival.normalised) == (pytest.approx(0.2), pytest.approx(0.75))
    assert [list(example.images) for example in report.examples] == [["hole", "base", "algorithm-1"]] * 4
    assert [(row.editor, row.drift) for row in report.drift] == [("base", 2.0), ("algorithm-1", 2.0)]
    assert report.skips[0].share == 0.25
    assert report.timing[0].seconds == 3.5
    settings = {(setting.stage, setting.name, setting.value) for setting in report.settings}
    assert {("Edit", "flavour", "plain"), ("algorithm-1", "bound", "0.6")} <= settings
    json.loads(report.to_json())


def test_a_whole_table_is_read_in_the_order_of_its_rows(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / "answers" / name, Answer, [answer("t", 1, -1, variant=name)])
    (tmp_path / "table.json").write_text(json.dumps({"judge": [{"variant": "b"}, {"variant": "b"}, {"variant": "a"}]}))
    report = read_report(ReportInputs(answers=(tmp_path,)))
    assert [row.variant for row in report.judge] == ["b", "a"]
    assert {setting.stage for setting in report.settings} == {"Answer: a", "Answer: b"}


def test_two_folders_with_a_row_of_one_name_are_refused(tmp_path: Path) -> None:
    folders = [write(tmp_path / name, Answer, [answer("t", 1, -1, variant="untuned")]) for name in ("a", "b")]
    with pytest.raises(ValueError, match="both hold a row named untuned"):
        read_report(ReportInputs(answers=tuple(folders)))


def test_a_dynamic_run_is_drawn_by_its_win_rate_another_by_its_reward(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"step": 1, "task": "fill", "reward": {"structure": 0.5}},
        {"step": 2, "task": "fill", "reward": {"structure": 0.6}, "win_rate": {"fill": {"structure": 0.7}}},
        {"step": 3, "task": "remove", "reward": {"removal_quality": 0.2}},
    ]
    run = write_log(tmp_path / "rl", lines)
    assert [(curve.dimension, curve.values) for curve in read_curves("algorithm-1", run)] == [
        ("structure", (0.5, 0.6)),
        ("removal_quality", (0.2,)),
    ]
    (run / "config.json").write_text('{"dynamic": true}')
    (curve,) = read_curves("algorithm-2", run)
    assert (curve.measure, curve.task, curve.dimension) == ("win_rate", "fill", "structure")
    assert (curve.steps, curve.values) == ((2.0,), (0.7,))


def test_a_folder_without_a_log_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no log\.jsonl"):
        read_curves("algorithm-1", tmp_path)


def test_smoothing_by_hand() -> None:
    assert smoothed([0, 1, 2, 10], [0, 3, 6, 1], 2) == (1.5, 3, 4.5, 1)
