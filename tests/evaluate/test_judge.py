"""The stage `evaluate judge` and its verb: answers in both orders, and the table made of them."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from onereward.cli.main import main
from onereward.evaluate.judge import evaluate_judge
from onereward.metrics.answers import answer_preferences
from onereward.metrics.judge_table import judge_table
from onereward.metrics.records import Answer
from onereward.models.judge_contract import JudgeContract, save_judge_contract
from onereward.models.load_judge import load_qwen_vl
from onereward.models.qwen_pixels import Images
from onereward.models.qwen_vl import Answers
from onereward.query import Variant, build_query
from onereward.report import ReportInputs, read_report
from onereward.store.shards import read_records, run_stage
from onereward.terms import Dimension, Preference, VoterKind
from tests.preferences import bright_preference, bright_preferences_folder
from tests.tiny_judge import tiny_judge_folder

COUNT = 12


@pytest.fixture(scope="module")
def preferences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bright_preferences_folder(tmp_path_factory.mktemp("preferences"), COUNT)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_judge_folder(tmp_path_factory.mktemp("judge")))


class _Brightness:
    """A judge whose log-odds are ten times the difference in brightness, plus one for the first image.

    It says neither answer with a probability of .2 where the first image is the brighter, of .4 otherwise.
    """

    contract = JudgeContract(temperatures={Dimension.STRUCTURE: 2.0})

    def __init__(self) -> None:
        self.queries: list[str] = []

    def answer_both_orders(
        self, first: Images, second: Images, queries: Sequence[Sequence[str]]
    ) -> tuple[Answers, Answers]:
        self.queries += [query for sample in queries for query in sample]
        pairs = list(zip(first, second, strict=True))
        return self._answers(pairs), self._answers([(two, one) for one, two in pairs])

    def _answers(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> Answers:
        difference_B1 = torch.stack([10 * (first.mean() - second.mean()) for first, second in pairs])[:, None]
        inside_B1 = torch.where(difference_B1 > 0, 0.8, 0.6)
        yes_B1 = inside_B1 * (difference_B1 + 1).sigmoid()
        return Answers(log_yes_BK=yes_B1.log(), log_no_BK=(inside_B1 - yes_B1).log())


def test_answers_keep_the_order_of_preferences_of_several_sizes(preferences: Path) -> None:
    records = list(read_records(preferences, Preference))
    brightness = _Brightness()
    answers = answer_preferences(brightness, records, Variant.TASK, "task", batch=5)
    assert [answer.triplet_id for answer in answers] == [record.triplet_id for record in records]
    assert all(answer.is_right and answer.flips for answer in answers)
    assert all(answer.winner_first + answer.loser_first == pytest.approx(2, abs=1e-2) for answer in answers)
    assert all(answer.outside == pytest.approx((0.2 + 0.4) / 2) for answer in answers)
    assert brightness.queries == [build_query(p.task, p.dimension, p.prompt, Variant.TASK) for p in records]


def test_an_answer_tells_its_preference_and_how_it_is_read() -> None:
    preference = replace(bright_preference(8), source="photo", tie=True, winner_index=3, loser_index=2)
    (answer,) = answer_preferences(_Brightness(), [preference], Variant.PAIR, "pairs")
    assert (answer.source, answer.tie, answer.winner_index, answer.loser_index) == ("photo", True, 3, 2)
    assert (answer.voter, answer.kind, answer.variant) == (preference.voter, VoterKind.ORACLE, "pairs")
    assert (answer.dimension, answer.temperature) == (Dimension.STRUCTURE, 2.0)
    (other,) = answer_preferences(_Brightness(), [bright_preference(0)], Variant.PAIR, "pairs")
    assert (other.dimension, other.temperature) == (Dimension.TEXT_ALIGNMENT, 1.0)


def test_the_two_images_of_a_pair_may_differ_in_size(judge: str) -> None:
    small, large = bright_preference(0), bright_preference(3)  # 32x32 and 48x32 pixels
    mixed = replace(small, loser=large.loser)
    alone, beside = (
        answer_preferences(load_qwen_vl(judge), asked, Variant.TASK_DIMENSION, "x")[0]
        for asked in ([mixed], [mixed, large, small])
    )
    assert beside.winner_first == pytest.approx(alone.winner_first, abs=1e-4)
    assert beside.loser_first == pytest.approx(alone.loser_first, abs=1e-4)
    assert alone.outside is not None and 0 < alone.outside < 1


def test_a_judge_is_asked_as_it_was_trained_where_nothing_else_is_said(preferences: Path, tmp_path: Path) -> None:
    folder = tiny_judge_folder(tmp_path / "judge")
    save_judge_contract(folder, JudgeContract(variant=Variant.PAIR, temperatures={Dimension.STRUCTURE: 1.5}))
    manifest = evaluate_judge(preferences, tmp_path / "answers", str(folder), None, "mine")
    assert manifest.plan.config == {"variant": "pair", "label": "mine"}
    told = {(answer.dimension, answer.temperature) for answer in read_records(tmp_path / "answers", Answer)}
    assert (Dimension.STRUCTURE, 1.5) in told and (Dimension.CONSISTENCY, 1.0) in told


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


def words(preferences: Path, output: Path, *judges: str) -> list[str]:
    rows = [word for judge in judges for word in ("--judge", judge)]
    return ["evaluate", "judge", "--input", str(preferences), *rows, "--output", str(output)]


def test_the_verb_writes_answers_a_table_and_a_page(
    preferences: Path, judge: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"mine={judge}", f"fixed_query={judge}@fixed_query"]
    assert main([*words(preferences, tmp_path, *rows), "--json"]) == 0
    printed = capsys.readouterr().out
    table = json.loads(printed)
    assert table == json.loads((tmp_path / "table.json").read_text())
    for name in ("mine", "fixed_query"):
        of = [row for row in table["judge"] if row["variant"] == name]
        assert sum(row["n"] for row in of) == COUNT
        assert all(0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1 for row in of)
        assert all(0 <= row["ece"] <= 1 and 0 <= row["brier"] <= 1 and 0 < row["outside"] < 1 for row in of)
    assert {(row["variant"], row["against"]) for row in table["comparisons"]} == {("mine", "fixed_query")}
    assert {row["n"] for row in table["ceiling"]} == {0}
    assert "<svg" in (tmp_path / "table.html").read_text()
    answers = [list(read_records(tmp_path / "answers" / name, Answer)) for name in ("mine", "fixed_query")]
    assert judge_table([*answers[0], *answers[1]]) == read_report(ReportInputs(answers=(tmp_path,))).table


def test_the_verb_prints_lines_and_leaves_finished_rows_alone(
    preferences: Path, judge: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(preferences, tmp_path, f"a={judge}")) == 0
    finished = {path: path.stat().st_mtime_ns for path in (tmp_path / "answers" / "a").iterdir()}
    assert main(words(preferences, tmp_path, f"a={judge}", f"b={judge}@pair")) == 0
    out = capsys.readouterr().out
    assert "95 % interval" in out and f"a against b on all {COUNT} pairs" in out
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "answers" / "a").iterdir()} == finished


def test_one_judge_alone_needs_no_name(preferences: Path, judge: str, tmp_path: Path) -> None:
    assert main(words(preferences, tmp_path, judge)) == 0
    assert main(words(preferences, tmp_path, f"{judge}@pair")) == 0
    assert {path.name for path in (tmp_path / "answers").iterdir()} == {"task_dimension", "pair"}


@pytest.mark.parametrize(("count", "message"), [(0, "holds no preference"), (2, "holds nothing but ties")])
def test_preferences_without_a_winner_are_wrong_input(
    count: int, message: str, judge: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ties = [replace(bright_preference(index), tie=True) for index in range(count)]
    run_stage(
        tmp_path / "ties",
        kind=Preference,
        stage="test",
        config=JudgeContract(),
        inputs={},
        shard_count=1,
        make_shard=lambda _: ties,
    )
    assert main(words(tmp_path / "ties", tmp_path / "judged", judge)) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "judged" / "table.json").exists()


def test_a_missing_judge_is_wrong_input(preferences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(preferences, tmp_path / "answers", str(tmp_path / "none"))) == 2
    assert "expected 'toy', a folder" in capsys.readouterr().err
    assert not (tmp_path / "answers").exists()
