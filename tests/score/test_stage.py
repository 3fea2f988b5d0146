"""The stage: the judge's own numbers, no number for what failed, and equal bytes whatever stopped it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from onereward.edit.judge import ImageJudge, load_judge
from onereward.score.pairs import survey
from onereward.score.stage import FAILED, SHARD, PairScore, Summary, score_pairs
from onereward.store.files import PART, write_atomically
from onereward.store.shards import read_records
from onereward.terms import Dimension, Task
from tests.pictures import noise
from tests.serve.edits import file_of
from tests.serve.scores import FailingModel
from tests.tiny_judge import tiny_judge_folder

WIDTHS = (40, 33, 64)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> ImageJudge:
    return load_judge(str(tiny_judge_folder(tmp_path_factory.mktemp("judge"))))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for width in WIDTHS:
        (tmp_path / f"{width}.png").write_bytes(file_of(noise(width, 32)))
    return tmp_path


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    file = folder / "pairs.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def some_pairs(count: int) -> list[dict[str, Any]]:
    """Of every task and of several sizes."""
    return [
        {
            "id": f"pair-{place}",
            "first": f"{WIDTHS[place % 3]}.png",
            "second": f"{WIDTHS[place // 3 % 3]}.png",
            "task": [*Task][place % 4],
            "prompt": "a red star" if place % 5 else "",
        }
        for place in range(count)
    ]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_scores_are_the_judge_s_own(folder: Path, judge: ImageJudge) -> None:
    rows = some_pairs(SHARD + 6)
    done = score_pairs(survey(written(folder, rows)), folder / "scores", judge, batch=16)
    scores = list(read_records(folder / "scores", PairScore))
    assert done == Summary(pairs=len(rows), failed=0, scores=len(scores), judge=judge.fingerprint)
    assert (folder / "scores" / FAILED).read_bytes() == b""
    assert [*dict.fromkeys(score.pair_id for score in scores)] == [row["id"] for row in rows]
    for row in rows[:: SHARD // 4]:
        first, second = (Image.open(folder / row[name]) for name in ("first", "second"))
        expected = judge.scores(first, second, row["task"], row["prompt"])
        found = {score.dimension: score for score in scores if score.pair_id == row["id"]}
        assert [*found] == [*expected]
        for dimension, score in expected.items():
            for name, value in vars(score).items():
                assert getattr(found[dimension], name) == pytest.approx(value, abs=1e-4)
            assert (found[dimension].task, found[dimension].judge) == (row["task"], judge.fingerprint)


def test_probabilities_are_calibrated_by_the_judge_s_contract(folder: Path, judge: ImageJudge) -> None:
    cooler = ImageJudge(judge.model.with_contract(temperatures={Dimension.STRUCTURE: 4.0}))
    row = {"first": "40.png", "second": "64.png", "task": "fill", "dimension": ["structure", "aesthetics"]}
    score_pairs(survey(written(folder, [row])), folder / "scores", cooler)
    structure, aesthetics = read_records(folder / "scores", PairScore)
    for score, temperature in ((structure, 4.0), (aesthetics, 1.0)):
        log_odds = (score.log_odds_forward - score.log_odds_backward) / 2
        assert score.probability == pytest.approx(1 / (1 + 2.718281828459045 ** (-log_odds / temperature)))


def test_what_failed_is_listed_and_has_no_row(folder: Path, judge: ImageJudge) -> None:
    (folder / "torn.png").write_bytes(file_of(noise(64, 64))[:2000])
    (folder / "text.png").write_text("no picture")
    (folder / "thin.png").write_bytes(file_of(noise(1000, 3)))
    (folder / "deep.png").write_bytes(file_of(noise(40, 32, "I;16")))
    rows = some_pairs(12)
    rows[1]["first"] = "none.png"
    rows[2]["second"] = "torn.png"
    rows[3]["second"] = "text.png"
    rows[4]["first"] = "thin.png"
    rows[5] |= {"task": "fill", "prompt": "a <|im_end|>"}
    rows[6]["first"] = "."
    rows[7]["first"] = "x" * 5000
    rows[8]["first"] = "a\0b"
    rows[9]["first"] = "deep.png"
    done = score_pairs(survey(written(folder, rows)), folder / "scores", judge)
    assert (done.pairs, done.failed) == (12, 8)
    failed = [json.loads(line) for line in (folder / "scores" / FAILED).read_text().splitlines()]
    assert [(one["id"], one["row"]) for one in failed] == [(f"pair-{place}", place + 1) for place in range(1, 9)]
    scored = {score.pair_id for score in read_records(folder / "scores", PairScore)}
    assert scored == {f"pair-{place}" for place in (0, 9, 10, 11)}
    for one, words in zip(
        failed,
        [
            "cannot read the first image: no such file or directory",
            "cannot read the second image: image file is truncated",
            "cannot read the second image: it is no picture",
            "cannot show the judge the first image of 1000x3",
            "the prompt has the judge's own sign <|im_end|>",
            "cannot read the first image: is a directory",
            "cannot read the first image: file name too long",
            "cannot read the first image: embedded null byte",
        ],
        strict=True,
    ):
        assert one["reason"].startswith(words)
        assert str(folder) not in one["reason"] and " 0x" not in one["reason"]


def test_an_answer_that_is_no_number_is_no_score(folder: Path, judge: ImageJudge) -> None:
    lost = ImageJudge(FailingModel(judge.model, no_number_of=33))  # type: ignore[arg-type]
    lost.fingerprint = judge.fingerprint  # type: ignore[misc]
    rows = some_pairs(6)
    done = score_pairs(survey(written(folder, rows)), folder / "scores", lost)
    failed = [json.loads(line) for line in (folder / "scores" / FAILED).read_text().splitlines()]
    assert [one["id"] for one in failed] == ["pair-1", "pair-4"] and done.failed == 2
    assert all(one["reason"].startswith("the judge's answer is no number") for one in failed)
    assert {score.pair_id for score in read_records(folder / "scores", PairScore)} == {
        "pair-0",
        "pair-2",
        "pair-3",
        "pair-5",
    }


def test_what_only_the_machine_can_mend_stops_the_stage(folder: Path, judge: ImageJudge) -> None:
    broken = ImageJudge(FailingModel(judge.model, fails_on=33))  # type: ignore[arg-type]
    broken.fingerprint = judge.fingerprint  # type: ignore[misc]
    table = survey(written(folder, some_pairs(6)))
    with pytest.raises(RuntimeError, match="/secret/place"):
        score_pairs(table, folder / "scores", broken)
    assert not (folder / "scores").exists()
    assert score_pairs(table, folder / "scores", judge).failed == 0


@pytest.mark.parametrize("in_cells", [False, True])
def test_stopped_anywhere_it_ends_with_the_same_bytes(
    folder: Path, judge: ImageJudge, monkeypatch: pytest.MonkeyPatch, in_cells: bool
) -> None:
    monkeypatch.setattr("onereward.score.stage.SHARD", 4)
    rows = some_pairs(2 * 4 + 3)
    rows[3]["first"] = rows[-1]["second"] = "none.png"
    table = written(folder, rows)
    if in_cells:
        table = folder / "pairs.parquet"
        files = {name: (folder / name).read_bytes() if name != "none.png" else b"" for name in ("none.png", "40.png")}
        cells = [{**row, "first": files.get(row["first"], b"\x89PNG"), "second": files["40.png"]} for row in rows]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(cells), table)
    whole = folder / "whole"
    score_pairs(survey(table), whole, judge)
    expected = bytes_of(whole)
    assert set(expected) == {"manifest.json", FAILED, *(f"shard-0000{place}.parquet" for place in range(3))}
    for place in range(len(expected)):
        stopped = folder / f"stopped-{place}"
        with stopped_after(place), pytest.raises(KeyboardInterrupt):
            score_pairs(survey(table), stopped, judge)
        score_pairs(survey(table), stopped, judge)
        (stopped / f"{FAILED}{PART}").unlink(missing_ok=True)
        assert bytes_of(stopped) == expected
    stamps = {path.name: path.stat().st_mtime_ns for path in whole.iterdir()}
    score_pairs(survey(table), whole, judge)
    assert {path.name: path.stat().st_mtime_ns for path in whole.iterdir()} == stamps


@contextmanager
def stopped_after(files: int) -> Iterator[None]:
    """The stage is stopped while it writes its next file after so many."""
    left = files

    def writing(path: Path, data: bytes) -> None:
        nonlocal left
        if left == 0:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(path.name + PART).write_bytes(data[:10])
            raise KeyboardInterrupt
        left -= 1
        write_atomically(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("onereward.store.shards.write_atomically", writing)
        patch.setattr("onereward.score.stage.write_atomically", writing)
        yield


def test_other_pairs_another_judge_or_batch_do_not_mix(folder: Path, judge: ImageJudge) -> None:
    rows = some_pairs(3)
    score_pairs(survey(written(folder, rows)), folder / "scores", judge)
    other = ImageJudge(judge.model.with_contract(temperatures={Dimension.STRUCTURE: 2.0}))
    for who, batch, what in ((other, 16, "inputs.judge"), (judge, 1, "config.batch")):
        with pytest.raises(ValueError, match=f"made with other settings: {what}"):
            score_pairs(survey(folder / "pairs.jsonl"), folder / "scores", who, batch=batch)
    (folder / "33.png").write_bytes(file_of(noise(34, 32)))
    with pytest.raises(ValueError, match=r"made with other settings: inputs\.pairs"):
        score_pairs(survey(folder / "pairs.jsonl"), folder / "scores", judge)
    with pytest.raises(ValueError, match="got a batch of 0"):
        score_pairs(survey(folder / "pairs.jsonl"), folder / "other", judge, batch=0)
