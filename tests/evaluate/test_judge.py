"""The stage `evaluate judge` and its verb: answers in both orders, and the table made of them."""

import json
from pathlib import Path

import pytest
import torch

from onereward.cli.main import main
from onereward.evaluate.judge import evaluate_judge
from onereward.metrics.answers import answer_preferences
from onereward.metrics.records import Answer
from onereward.models.load_judge import load_qwen_vl
from onereward.query import Variant, build_query
from onereward.store.shards import read_records
from onereward.terms import Preference
from tests.preferences import bright_preferences_folder
from tests.tiny_judge import tiny_judge_folder

COUNT = 12


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_preferences_folder(tmp_path_factory.mktemp("preferences"), COUNT)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_judge_folder(tmp_path_factory.mktemp("judge")))


class _Brightness:
    """A judge whose log-odds are ten times the difference in brightness, plus one for the first image."""

    def __init__(self) -> None:
        self.queries: list[str] = []

    def log_odds_both_orders(
        self, first_B3HW: torch.Tensor, second_B3HW: torch.Tensor, queries: list[list[str]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.queries += [query for sample in queries for query in sample]
        difference = 10 * (first_B3HW - second_B3HW).mean((1, 2, 3))[:, None]
        return difference + 1, 1 - difference


def test_answers_keep_the_order_of_preferences_of_several_sizes(preferences: Path) -> None:
    records = list(read_records(preferences, Preference))
    brightness = _Brightness()
    answers = answer_preferences(brightness, records, Variant.TASK, "task", batch=2)
    assert [answer.triplet_id for answer in answers] == [record.triplet_id for record in records]
    assert all(answer.is_right and answer.flips for answer in answers)
    assert all(answer.winner_first + answer.loser_first == pytest.approx(2, abs=1e-4) for answer in answers)
    assert sorted(brightness.queries) == sorted(
        build_query(p.task, p.dimension, p.prompt, Variant.TASK) for p in records
    )


def test_the_stage_writes_what_the_judge_says(preferences: Path, judge: str, tmp_path: Path) -> None:
    manifest = evaluate_judge(preferences, tmp_path, judge, Variant.FIXED_QUERY, "fixed_query")
    answers = list(read_records(tmp_path, Answer))
    records = list(read_records(preferences, Preference))
    assert manifest.rows == COUNT
    assert answers == answer_preferences(
        load_qwen_vl(judge), records[: COUNT // 2], Variant.FIXED_QUERY, "fixed_query"
    ) + (answer_preferences(load_qwen_vl(judge), records[COUNT // 2 :], Variant.FIXED_QUERY, "fixed_query"))
    assert {answer.variant for answer in answers} == {"fixed_query"}


def test_another_judge_is_not_mixed_into_the_folder(preferences: Path, judge: str, tmp_path: Path) -> None:
    evaluate_judge(preferences, tmp_path, judge, Variant.TASK_DIMENSION, "untuned")
    with pytest.raises(ValueError, match="other settings"):
        evaluate_judge(preferences, tmp_path, judge, Variant.TASK_DIMENSION, "tuned")


def test_the_verb_prints_rows_with_n_and_interval(
    preferences: Path, judge: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "judge", "--input", str(preferences), "--judge", judge, "--output", str(tmp_path)]
    assert main([*words, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert sum(row["n"] for row in rows) == COUNT
    assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in rows)
    assert main(words) == 0
    assert "95 % interval" in capsys.readouterr().out


def test_a_missing_judge_is_wrong_input(preferences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["evaluate", "judge", "--input", str(preferences), "--judge", str(tmp_path / "none"), "--output"]
    assert main([*words, str(tmp_path / "answers")]) == 2
    assert "expected 'toy', a folder" in capsys.readouterr().err
    assert not (tmp_path / "answers").exists()
