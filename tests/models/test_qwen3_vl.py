"""What Qwen3-VL has of its own: deeper vision features beside the others, patches of 16, no system prompt.

That packed equals stock, gradients included, `test_qwen_vl.py` shows of both families.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from onereward.models.load_judge import MAX_PIXELS, load_qwen_vl
from onereward.models.qwen_pixels import PixelRules, grid_thw, patches_of
from onereward.models.qwen_vl import QwenVLJudge, Reader
from tests.stock_judge import Doubles, heard, stock_logits
from tests.tiny_judge import QWEN3_PIXELS, tiny_qwen3_folder

QUERIES = [["Is the **first** image better?", "Structure?", "Is it?"], ["Is it?"]]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> QwenVLJudge:
    return load_qwen_vl(str(tiny_qwen3_folder(tmp_path_factory.mktemp("qwen3"))), dtype=torch.float64)


def images() -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(1)
    sizes = [(64, 96), (32, 64), (96, 32), (64, 64)]
    levels = [torch.randint(0, 256, (3, *size), generator=generator) for size in sizes]
    one, two, three, four = ((level.double() / 127.5 - 1).requires_grad_() for level in levels)
    return [one, two], [three, four]


def test_it_is_the_stock_class_frozen(judge: QwenVLJudge) -> None:
    assert type(judge.model) is Qwen3VLForConditionalGeneration
    assert not judge.model.training and not any(parameter.requires_grad for parameter in judge.model.parameters())
    assert (judge.pixels.patch_size, judge.pixels.mean, judge.pixels.std) == (16, (0.5,) * 3, (0.5,) * 3)


def test_the_pixels_of_the_released_checkpoints() -> None:
    """Their preprocessor_config.json: at least 256x256, patches of 16; 448x448 is 14x14 tokens."""
    released = Qwen2VLImageProcessorPil(**QWEN3_PIXELS, size={"shortest_edge": 65536, "longest_edge": 16777216})
    rules = PixelRules.of(released, MAX_PIXELS)
    assert rules.merged_grid(448, 448) == rules.merged_grid(1000, 1000) == (14, 14)
    assert rules.merged_grid(64, 64) == (8, 8)


def test_every_level_reaches_the_language_model_image_by_image(judge: QwenVLJudge) -> None:
    first, second = images()
    said = heard(judge, lambda: judge.log_odds(first, second, QUERIES))["mm_encoder_outputs"]["image"]
    in_order = [image for pair in zip(first, second, strict=True) for image in pair]
    patches, grids = patches_of(in_order, judge.pixels)
    stock = judge.model.model.get_image_features(patches, grid_thw(grids, judge.pixels), return_dict=True)
    assert [len(image) for image in said.pooler_output] == [6, 3, 2, 4]
    assert len(said.deepstack_features) == len(stock.deepstack_features) == 2
    for ours, theirs in zip(
        (said.pooler_output, *said.deepstack_features), (stock.pooler_output, *stock.deepstack_features), strict=True
    ):
        assert all((one - two).abs().max() < 1e-6 for one, two in zip(ours, theirs, strict=True))


def test_they_carry_a_gradient_of_their_own(judge: QwenVLJudge, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the last level's features cut off from the pixels, packed and stock still agree on what is left."""
    first, second = images()
    original = judge.model.model.get_image_features

    def last_level_detached(*arguments: Any, **options: Any) -> Any:
        seen = original(*arguments, **options)
        seen.pooler_output = tuple(image.detach() for image in seen.pooler_output)
        return seen

    monkeypatch.setattr(judge.model.model, "get_image_features", last_level_detached)
    with Doubles():
        ours = judge.logits(first, second, QUERIES)
        asked = torch.cat([ours[b, : len(sample)] for b, sample in enumerate(QUERIES)])
        stock = stock_logits(judge, first, second, QUERIES, own_pixels=True)
        gradients = [torch.autograd.grad(logits.square().sum(), [*first, *second]) for logits in (asked, stock)]
    for mine, its in zip(*gradients, strict=True):
        assert its.abs().max() > 1e-3
        assert (mine - its).abs().max() <= 1e-12 * its.abs().max()


Seen = list[tuple[Tensor, ...]]


def _without_deeper_levels(seen: Seen) -> Seen:
    return [image[:1] for image in seen]


def _levels_in_another_order(seen: Seen) -> Seen:
    return [(pooled, *reversed(deeper)) for pooled, *deeper in seen]


def _rows_in_another_order(seen: Seen) -> Seen:
    return [(pooled, *(level.flip(0) for level in deeper)) for pooled, *deeper in seen]


@pytest.mark.parametrize("mistake", [_without_deeper_levels, _levels_in_another_order, _rows_in_another_order])
def test_a_mistake_in_the_deeper_features_would_show(
    judge: QwenVLJudge, monkeypatch: pytest.MonkeyPatch, mistake: Callable[[Seen], Seen]
) -> None:
    right = judge.log_odds(*images(), QUERIES)
    original = Reader._see
    monkeypatch.setattr(Reader, "_see", lambda *arguments: mistake(original(*arguments)))
    assert (judge.log_odds(*images(), QUERIES) - right).nan_to_num().abs().max() > 1e-3
