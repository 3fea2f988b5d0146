"""The judge's benchmarks in their smallest form: the contestants do the same work, and what does not is refused."""

import json
import sys

import pytest
import torch
from torch import Tensor

from benchmarks import judge_scoring, judge_size, judge_training
from benchmarks.judge_scoring import QUERIES, SEVEN_B, SIXTEENTH, SMALLEST, TOLERANCE
from onereward.models.qwen_vl import QwenVLJudge
from tests.stock_judge import stock_logits

CPU = torch.device("cpu")
MIB = 2**20


@pytest.fixture(scope="module")
def judge() -> QwenVLJudge:
    return judge_scoring.random_judge(SMALLEST, CPU, torch.float32).freeze()


@pytest.fixture(scope="module")
def seven_b() -> QwenVLJudge:
    return judge_scoring.random_judge(SEVEN_B, torch.device("meta"), torch.bfloat16)


def test_packed_and_stock_do_the_same_work(judge: QwenVLJudge) -> None:
    found = judge_scoring.measure(judge, image_size=224, pairs=2, rounds=1)
    assert found["log_odds_difference"] < TOLERANCE and found["gradient_difference"] < TOLERANCE
    assert list(found["seconds"]) == ["stock", "packed", "packed, one dimension", "vision tower once"]
    assert all(seconds > 0 for seconds in found["seconds"].values())
    peak = found["peak_mib"]
    assert peak["packed, one dimension"] <= peak["packed"] < peak["stock, one backward"]
    assert peak["stock"] < peak["stock, one backward"] / 2
    assert found["peak, stock over packed"] == pytest.approx(peak["stock"] / peak["packed"], abs=0.01)


def test_the_answers_are_worth_comparing(judge: QwenVLJudge) -> None:
    """Log odds of ordinary size that depend on the pair and on the dimension."""
    log_odds_BK = judge_scoring.packed(judge, judge_scoring.noise_pair(2, 224, CPU), QUERIES)
    differences = [abs(log_odds_BK[0, 0] - other) for other in (log_odds_BK[0, 1], log_odds_BK[1, 0])]
    assert min(differences) > 10 * TOLERANCE
    assert log_odds_BK.abs().max() > 0.01


def test_stock_is_what_the_stock_processor_and_class_answer(judge: QwenVLJudge) -> None:
    first_B3HW, second_B3HW = (
        ((image + 1) * 127.5).detach().round() / 127.5 - 1 for image in judge_scoring.noise_pair(2, 224, CPU)
    )
    for query in QUERIES:
        logits_BV = stock_logits(judge, first_B3HW, second_B3HW, [[query], [query]])
        yes, no = judge.answer_ids
        found = judge_scoring.stock_log_odds(judge, (first_B3HW, second_B3HW), query)
        assert (found - (logits_BV[:, yes] - logits_BV[:, no])).abs().max() < TOLERANCE


def test_other_work_than_stock_is_refused(judge: QwenVLJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    right = judge_scoring.stock_log_odds
    monkeypatch.setattr(judge_scoring, "stock_log_odds", lambda judge, pair, query: right(judge, pair[::-1], query))
    with pytest.raises(RuntimeError, match="packed and stock do different work"):
        judge_scoring.measure(judge, image_size=112, pairs=1, rounds=1)


def test_a_ratio_is_the_median_over_rounds() -> None:
    assert judge_scoring.ratio([4.0, 9.0, 40.0], [2.0, 3.0, 4.0]) == 3.0


def test_peak_memory_by_hand() -> None:
    """Two of three mebibytes lie side by side, the third only when the second has gone."""

    def work() -> Tensor:
        first, second = torch.ones(MIB // 4), torch.ones(MIB // 4)
        del second
        return first + 1

    assert judge_scoring.peak_mib(work, CPU) == 2.0


def test_what_does_not_fit_has_no_peak() -> None:
    def work() -> None:
        raise torch.OutOfMemoryError

    assert judge_scoring.peak_mib(work, CPU) is None


def test_the_7b_has_the_weights_of_the_released_one(seven_b: QwenVLJudge) -> None:
    parameters = list(seven_b.model.parameters())
    assert sum(parameter.numel() for parameter in parameters) == 8_292_166_656
    assert {parameter.dtype for parameter in parameters} == {torch.bfloat16}
    assert seven_b.pixels.merged_grid(448, 448) == (16, 16) and seven_b.pixels.merged_grid(1008, 1008) == (36, 36)


def test_the_work_divides_as_in_the_7b(seven_b: QwenVLJudge) -> None:
    """By hand, biases and norms left out: two images of 1,024 patches, merged to 256 tokens, in 614 tokens of text."""
    blocks = 32 * (4 * 1280**2 + 3 * 1280 * 3420)
    merger = 5120**2 + 5120 * 3584
    layers = 28 * (2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18944)
    vision, text = 2 * (1024 * blocks + 256 * merger), 614 * layers
    share = judge_scoring.vision_share(seven_b.model, 448, 614)
    assert share == pytest.approx(vision / (vision + text), rel=0.01)
    small = judge_scoring.random_judge(SIXTEENTH, torch.device("meta"), torch.float32)
    assert judge_scoring.vision_share(small.model, 448, 614) == pytest.approx(share, abs=0.05)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it says where there is no GPU")
def test_without_a_gpu_it_says_so_loudly_and_smokes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["judge_size"])
    judge_size.main()
    said = capsys.readouterr()
    assert said.err.startswith("NO GPU") and "SAY NOTHING ABOUT THE 7B" in said.err
    found = json.loads(said.out)
    assert (found["is_7b"], list(found)) == (False, ["is_7b", "pairs", "112x112"])
    assert found["112x112"]["device"] == "cpu"
    assert found["112x112"]["log_odds_difference"] < TOLERANCE


def test_trl_and_ours_train_on_the_same_loss() -> None:
    found = judge_training.measure(SMALLEST, image_size=112, pairs=2, rounds=1)
    assert found["comparisons_in_a_batch"] == 2 * 4 * 2
    assert found["loss_difference"] < TOLERANCE and found["gradient_difference"] < TOLERANCE
    assert found["comparisons/s, trl"] > 0 and found["comparisons/s, ours"] > 0 and found["ours over trl"] > 0


def test_both_train_their_own_copy_on_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = judge_scoring.random_judge(SMALLEST, CPU, torch.float32)
    monkeypatch.setattr(judge_training, "random_judge", lambda *_: judge)
    before = [parameter.clone() for parameter in judge.model.parameters()]
    made: list[judge_training.SFTTrainer] = []
    right = judge_training.sft_trainer
    monkeypatch.setattr(judge_training, "sft_trainer", lambda *given: made.append(right(*given)) or made[0])
    judge_training.measure(SMALLEST, image_size=112, pairs=1, rounds=2)
    [trainer] = made
    assert trainer.state.global_step == 3
    for model in (judge.model, trainer.model):
        assert all((now != old).any() for now, old in zip(model.parameters(), before, strict=True))


def test_another_loss_than_trls_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Had the trainer's images always the same order, its loss would be another one."""
    collate = judge_training.Collator.__call__
    monkeypatch.setattr(
        judge_training.Collator,
        "__call__",
        lambda self, rows: collate(self, [{**row, "swapped": False} for row in rows]),
    )
    with pytest.raises(RuntimeError, match="TRL trains on another loss than ours"):
        judge_training.measure(SMALLEST, image_size=112, pairs=1, rounds=1)
