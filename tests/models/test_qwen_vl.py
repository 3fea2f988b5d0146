"""The judge against stock `Qwen2_5_VLForConditionalGeneration` calls, one query at a time, in double precision."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from onereward.models.judge_contract import Probability
from onereward.models.load_judge import load_qwen_vl
from onereward.models.qwen_vl import QwenVLJudge
from onereward.query import build_query
from onereward.terms import DIMENSIONS, Dimension, Task
from onereward.toy.judge_model import toy_image_processor
from tests.tiny_judge import tiny_judge_folder

QUERIES = [
    [build_query(Task.FILL, dimension, "a red star") for dimension in DIMENSIONS[Task.FILL]],
    [build_query(Task.REMOVE, Dimension.REMOVAL_QUALITY, "remove")],
    [
        build_query(Task.TEXT, Dimension.STRUCTURE, ""),
        build_query(Task.TEXT, Dimension.TEXT_ALIGNMENT, 'a sign that says "AX" above a zebra'),
    ],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge_folder(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def judge(folder: Path) -> QwenVLJudge:
    return load_qwen_vl(str(folder), dtype=torch.float64)


def _images(size: tuple[int, int] = (64, 48)) -> tuple[Tensor, Tensor]:
    """Whole grey levels, so that Pillow can hold the same images."""
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(0, 256, (2, len(QUERIES), 3, *size), generator=generator)
    first, second = levels.double() / 127.5 - 1
    return first, second


def _stock_processor(judge: QwenVLJudge) -> Qwen2_5_VLProcessor:
    """The stock processor without its constructor, which needs torchvision."""
    processor = object.__new__(Qwen2_5_VLProcessor)
    processor.image_processor, processor.tokenizer, processor.video_processor = (
        toy_image_processor(),
        judge.tokenizer,
        None,
    )
    processor.image_token, processor.video_token = "<|image_pad|>", "<|video_pad|>"
    processor.image_token_id, processor.video_token_id = judge.tokenizer.convert_tokens_to_ids(
        [processor.image_token, processor.video_token]
    )
    processor.chat_template = judge.tokenizer.chat_template
    return processor


def _stock_inputs(judge: QwenVLJudge, first: Tensor, second: Tensor, query: str) -> dict[str, Tensor]:
    images = [
        Image.fromarray(((image + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()) for image in (first, second)
    ]
    content = [{"type": "image"}, {"type": "image"}, {"type": "text", "text": query}]
    text = judge.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return dict(_stock_processor(judge)(text=[text], images=images, return_tensors="pt"))


def _stock_logits(judge: QwenVLJudge, first: Tensor, second: Tensor, queries: Sequence[Sequence[str]]) -> list[Tensor]:
    return [
        judge.model(**_stock_inputs(judge, first[b], second[b], query)).logits[0, -1]
        for b, sample in enumerate(queries)
        for query in sample
    ]


def _log_odds(judge: QwenVLJudge, logits: list[Tensor]) -> Tensor:
    yes, no = judge.answer_ids
    return torch.stack([row[yes] - row[no] for row in logits])


def test_a_packed_ragged_batch_equals_stock_forwards(judge: QwenVLJudge) -> None:
    first, second = _images()
    packed = judge.log_odds(first, second, QUERIES)
    assert packed.shape == (3, 4)
    assert torch.equal(packed.isnan().sum(1), torch.tensor([0, 3, 2]))
    stock = _log_odds(judge, _stock_logits(judge, first, second, QUERIES))
    assert (packed[~packed.isnan()] - stock).abs().max() < 1e-6  # the stock processor rounds pixels to float32


def test_packing_adds_nothing_in_double_precision(judge: QwenVLJudge) -> None:
    first, second = _images()
    packed = judge.log_odds(first, second, QUERIES)
    for b, sample in enumerate(QUERIES):
        for k, query in enumerate(sample):
            alone = judge.log_odds(first[b : b + 1], second[b : b + 1], [[query]])
            assert (packed[b, k] - alone[0, 0]).abs() < 1e-10


def test_gradients_equal_those_of_stock_forwards(judge: QwenVLJudge) -> None:
    """Through our pixels and packing, against stock attention over stock ids with our patches put in."""
    first, second = _images()
    first.requires_grad_()
    second.requires_grad_()
    packed = judge.log_odds(first, second, QUERIES)
    ours = torch.autograd.grad(packed[~packed.isnan()].sum(), (first, second))
    total = torch.zeros((), dtype=torch.float64)
    for b, sample in enumerate(QUERIES):
        for query in sample:
            inputs = _stock_inputs(judge, first[b].detach(), second[b].detach(), query)
            pair = torch.stack([first[b], second[b]])
            inputs["pixel_values"] = _patches_by_hand(pair)
            total = total + _log_odds(judge, [judge.model(**inputs).logits[0, -1]])[0]
    stock = torch.autograd.grad(total, (first, second))
    for mine, theirs in zip(ours, stock, strict=True):
        assert mine.abs().max() > 0
        assert (mine - theirs).abs().max() < 1e-6 * theirs.abs().max()  # the model's norms work in float32


def _patches_by_hand(pair_2CHW: Tensor) -> Tensor:
    """Merge blocks of 2x2 patches of 8x8 pixels, written with loops."""
    processor = toy_image_processor()
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in _mean_std(processor))
    rows = []
    for image in ((pair_2CHW + 1) / 2 - mean) / std:
        for top in range(0, image.shape[1], 16):
            for left in range(0, image.shape[2], 16):
                for y, x in ((0, 0), (0, 8), (8, 0), (8, 8)):
                    patch = image[:, top + y : top + y + 8, left + x : left + x + 8]
                    rows.append(torch.stack([patch, patch], dim=1).flatten())
    return torch.stack(rows)


def _mean_std(processor: object) -> tuple[list[float], list[float]]:
    return processor.image_mean, processor.image_std  # type: ignore[attr-defined]


def test_positions_are_the_multimodal_ones(judge: QwenVLJudge) -> None:
    """transformers drops M-RoPE without a word if neither positions nor token types are given."""
    first, second = _images()
    inputs = _stock_inputs(judge, first[0], second[0], QUERIES[0][0])
    ours = judge.log_odds(first[:1], second[:1], [QUERIES[0][:1]])[0, 0]
    stock = _log_odds(judge, [judge.model(**inputs).logits[0, -1]])[0]
    del inputs["mm_token_type_ids"]
    judge.model.model.rope_deltas = None
    flat = _log_odds(judge, [judge.model(**inputs).logits[0, -1]])[0]
    assert (ours - stock).abs() < 1e-6 < 1e-3 < (flat - stock).abs()


def test_both_orders_equal_two_calls(judge: QwenVLJudge) -> None:
    first, second = _images()
    forward, backward = judge.log_odds_both_orders(first, second, QUERIES)
    assert (forward - judge.log_odds(first, second, QUERIES)).abs().nan_to_num().max() < 1e-10
    assert (backward - judge.log_odds(second, first, QUERIES)).abs().nan_to_num().max() < 1e-10
    assert (forward - backward).abs().nan_to_num().max() > 1e-3


def test_second_grad_false_stops_the_gradient_into_the_reference_only(judge: QwenVLJudge) -> None:
    first, second = (image.requires_grad_() for image in _images())
    both = torch.autograd.grad(judge.prob_yes(first, second, QUERIES).nansum(), (first, second))
    one = judge.prob_yes(first, second, QUERIES, second_grad=False).nansum()
    first_grad, second_grad = torch.autograd.grad(one, (first, second), allow_unused=True)
    assert second_grad is None
    assert torch.equal(first_grad, both[0])
    assert both[1].abs().max() > 0


def test_a_loaded_judge_is_frozen(judge: QwenVLJudge) -> None:
    first, second = (image.requires_grad_() for image in _images())
    judge.prob_yes(first, second, QUERIES).nansum().backward()
    assert first.grad is not None
    assert all(parameter.grad is None for parameter in judge.model.parameters())
    assert not judge.model.training


def test_absent_queries_leave_gradients_finite(folder: Path) -> None:
    judge = load_qwen_vl(str(folder), trainable=True)
    first, second = (image.float() for image in _images())
    odds = judge.log_odds(first, second, QUERIES)
    odds[~odds.isnan()].sum().backward()
    gradients = [parameter.grad for parameter in judge.model.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_a_mean_over_the_asked_queries_has_a_finite_gradient(judge: QwenVLJudge) -> None:
    """What Algorithm 1 does with samples that have fewer dimensions."""
    first, second = _images()
    first.requires_grad_()
    (0.6 - judge.prob_yes(first, second, QUERIES, second_grad=False)).clamp(min=0).nanmean(1).sum().backward()
    assert first.grad is not None
    assert first.grad.isfinite().all()
    assert (first.grad.abs().amax((1, 2, 3)) > 0).any()


def test_full_and_binary_probability_differ_by_the_mass_outside(judge: QwenVLJudge) -> None:
    first, second = _images()
    full = judge.with_contract(probability=Probability.FULL)
    yes = full.prob_yes(first, second, QUERIES[:1] * 3)
    binary = judge.prob_yes(first, second, QUERIES[:1] * 3)
    outside = judge.answer(first, second, QUERIES[:1] * 3).outside_BK
    assert torch.allclose(yes / (1 - outside), binary)
    assert (outside > 0).all()
    by_hand = torch.stack(_stock_logits(judge, first, second, QUERIES[:1] * 3)).softmax(-1)[:, judge.answer_ids[0]]
    assert (yes.flatten() - by_hand).abs().max() < 1e-6


def test_eager_attention_gives_the_same(folder: Path, judge: QwenVLJudge) -> None:
    first, second = _images()
    eager = load_qwen_vl(str(folder), dtype=torch.float64)
    eager.model.set_attn_implementation("eager")
    difference = eager.log_odds(first, second, QUERIES) - judge.log_odds(first, second, QUERIES)
    assert difference.abs().nan_to_num().max() < 1e-6  # eager attention takes its softmax in float32


def test_an_answer_of_two_tokens_is_refused(judge: QwenVLJudge) -> None:
    with pytest.raises(ValueError, match=r"'the first' is .* tokens"):
        judge.with_contract(answers=("the first", "no"))


def test_a_missing_folder_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 'toy', a folder"):
        load_qwen_vl(str(tmp_path / "nothing"))


def test_the_folder_loads_with_stock_classes(folder: Path, judge: QwenVLJudge) -> None:
    stock = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float64)
    ours = judge.model.state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in stock.state_dict().items())
    assert stock.lm_head.weight is stock.model.language_model.embed_tokens.weight


@pytest.mark.parametrize("probability", list(Probability))
def test_both_orders_at_once_are_two_questions(folder: Path, probability: Probability) -> None:
    judge = load_qwen_vl(str(folder), dtype=torch.float64).with_contract(probability=probability)
    first, second = (image.requires_grad_(True) for image in _images())
    both = judge.prob_yes_both_orders(first, second, QUERIES, second_grad=False)
    forward, backward = judge.prob_yes(first, second, QUERIES), judge.prob_yes(second, first, QUERIES)
    assert torch.allclose(both, (forward + 1 - backward) / 2, atol=1e-12, equal_nan=True)
    both.nansum().backward()
    assert second.grad is None and first.grad is not None and first.grad.abs().sum() > 0
