"""The judge of two finished images."""

import numpy
import pytest
from PIL import Image

import onereward
from onereward.edit.judge import ImageJudge, NoAnswerError, asked_dimensions
from onereward.models.qwen_pixels import patches_of
from onereward.query import Variant
from onereward.store.images import image_to_tensor
from onereward.terms import Dimension, Task
from tests.pictures import noise
from tests.tiny_judge import tiny_judge_folder

PROMPT = "a red star"


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> ImageJudge:
    return onereward.load_judge(str(tiny_judge_folder(tmp_path_factory.mktemp("judge"))))


def test_the_judge_of_two_finished_images(judge: ImageJudge) -> None:
    first, second = noise(112, 56), noise(112, 56).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    better = judge.prob_better(first, second, "fill", "structure", PROMPT)
    assert 0 < better < 1 and better != 0.5
    assert judge.prob_better(second, first, "fill", "structure", PROMPT) == pytest.approx(1 - better, abs=1e-6)
    assert judge.prob_better(first, first, "fill", "structure", PROMPT) == pytest.approx(0.5, abs=1e-6)
    assert judge.prob_better(first, second, "remove", "removal_quality", "") != better
    with pytest.raises(ValueError, match="unknown dimension 'beauty'; the dimensions are text_alignment"):
        judge.prob_better(first, second, "fill", "beauty", PROMPT)
    with pytest.raises(ValueError, match="the two images are 112x56 and 56x112"):
        judge.prob_better(first, noise(56, 112), "fill", "structure", PROMPT)


def test_scores_are_what_the_model_says(judge: ImageJudge) -> None:
    first, second = noise(112, 56), noise(48, 80)
    scores = judge.scores(first, second, "extend", PROMPT)
    queries = [list(judge.pair(first, second, "extend", PROMPT).queries.values())]
    forward, backward = judge.model.answer_both_orders([image_to_tensor(first)], [image_to_tensor(second)], queries)
    assert [*scores] == [*asked_dimensions(Task.EXTEND, PROMPT)]
    for place, score in enumerate(scores.values()):
        there, back = (order.log_odds_BK[0, place].item() for order in (forward, backward))
        assert (score.log_odds_forward, score.log_odds_backward) == (there, back)
        assert score.probability == pytest.approx(1 / (1 + numpy.exp((back - there) / 2)), abs=1e-12)
        outside = sum(order.outside_BK[0, place].item() for order in (forward, backward)) / 2
        assert score.outside_mass == pytest.approx(max(outside, 0), abs=1e-7)


def test_the_contract_s_temperature_calibrates_and_its_variant_asks(judge: ImageJudge) -> None:
    first, second = noise(112, 56), noise(110, 56)
    cooler = ImageJudge(judge.model.with_contract(temperatures={Dimension.STRUCTURE: 3.0}))
    there, calibrated = (one.scores(first, second, "fill", PROMPT) for one in (judge, cooler))
    assert calibrated[Dimension.AESTHETICS] == there[Dimension.AESTHETICS]
    structure, plain = calibrated[Dimension.STRUCTURE], there[Dimension.STRUCTURE]
    assert structure.log_odds_forward == plain.log_odds_forward
    log_odds = numpy.log(plain.probability / (1 - plain.probability))
    assert structure.probability == pytest.approx(1 / (1 + numpy.exp(-log_odds / 3)))
    fixed = ImageJudge(judge.model.with_contract(variant=Variant.FIXED_QUERY))
    assert len(set(fixed.pair(first, second, "fill", PROMPT).queries.values())) == 1
    assert len({one.fingerprint for one in (judge, cooler, fixed)}) == 3


def test_each_pair_of_a_batch_gets_what_it_gets_alone(judge: ImageJudge) -> None:
    pairs = [
        judge.pair(noise(112, 56), noise(111, 56), "fill", PROMPT),
        judge.pair(noise(30, 90), noise(64, 64), "remove"),
        judge.pair(noise(64, 64), noise(65, 64), "text", PROMPT, ["aesthetics"]),
    ]
    together = judge.score_each(pairs)
    assert judge.score_each([]) == []
    for pair, scores in zip(pairs, together, strict=True):
        [alone] = judge.score_each([pair])
        assert not isinstance(scores, Exception) and not isinstance(alone, Exception)
        assert [*scores] == [*pair.queries]
        for dimension, score in scores.items():
            assert vars(score) == pytest.approx(vars(alone[dimension]), abs=1e-5)


def test_an_image_larger_than_the_judge_looks_at_is_shown_as_its_stock_processor_shows_it(judge: ImageJudge) -> None:
    large, other = noise(700, 400), noise(300, 500)
    shown = judge.pair(large, other, "remove").first_3HW
    size = judge.model.pixels.target_size(400, 700)
    assert tuple(shown.shape[-2:]) == size
    stock = judge.model.pixels.to_processor()(large, return_tensors="pt")["pixel_values"]
    ours, _ = patches_of([shown], judge.model.pixels)
    assert (ours - stock).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("paint", PROMPT, ()), "unknown task 'paint'"),
        (("fill", PROMPT, ["beauty"]), "unknown dimension 'beauty'"),
        (("remove", PROMPT, ["structure"]), "task 'remove' is not judged by 'structure'"),
        (("fill", "", ["text_alignment"]), "give the prompt"),
        (("fill", "a <|image_pad|>", ()), r"the judge's own sign <\|image_pad\|>: leave it out"),
    ],
)
def test_what_the_judge_cannot_be_asked_is_refused(
    judge: ImageJudge, asked: tuple[str, str, list[str]], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        judge.scores(noise(20, 20), noise(20, 20), *asked)


def test_an_image_that_is_too_thin_is_refused(judge: ImageJudge) -> None:
    with pytest.raises(ValueError, match=r"cannot show the judge the second image of 3x900: .* 300"):
        judge.scores(noise(20, 20), noise(3, 900), "remove")


def test_no_answer_is_no_number(judge: ImageJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = judge.pair(noise(20, 20), noise(21, 20), "remove")
    orders = judge.model.answer_both_orders([pair.first_3HW], [pair.second_3HW], [[*pair.queries.values()]])
    orders[0].log_no_BK[:] = float("nan")
    monkeypatch.setattr(judge.model, "answer_both_orders", lambda *_: orders)
    for ask in (judge.scores, lambda *images: judge.prob_better(*images, "removal_quality", "")):
        with pytest.raises(NoAnswerError, match=r"the judge's answer is no number \(probability is nan\)"):
            ask(noise(20, 20), noise(20, 20), "remove")
