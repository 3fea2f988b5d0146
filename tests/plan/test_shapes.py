"""Sizes by name: exact counts of weights, those that the models' owners publish or the shipped models have."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from onereward.models.load import load_flux_fill
from onereward.models.load_judge import load_qwen_vl
from onereward.plan.shapes import editor_shapes, judge_shapes
from onereward.query import build_query
from onereward.terms import Dimension, Task


def weights_of(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_flux_and_qwen_have_their_published_sizes() -> None:
    editor = editor_shapes("black-forest-labs/FLUX.1-Fill-dev").build(torch.bfloat16)
    # FLUX.1-dev's 11,901,408,320, and 320 more input channels of width 3072.
    assert weights_of(editor.transformer) == 11_901_408_320 + 320 * 3072
    assert weights_of(editor.vae) == 83_819_683
    assert weights_of(editor.text_encoder_2) == 4_762_310_656
    assert weights_of(editor.text_encoder) == 123_060_480
    assert {weight.dtype for weight in editor.transformer.parameters()} == {torch.bfloat16}
    for size, weights in {"7B": 8_292_166_656, "3B": 3_754_622_976}.items():
        judge = judge_shapes(f"Qwen/Qwen2.5-VL-{size}-Instruct").build(torch.bfloat16, 448 * 448)
        assert weights_of(judge.model) == weights
        assert {weight.dtype for weight in judge.model.parameters()} == {torch.bfloat16}


def test_a_folder_has_the_sizes_of_what_loads_from_it() -> None:
    real_editor, real_judge = load_flux_fill("toy"), load_qwen_vl("toy")
    shapes = editor_shapes("toy")
    editor, judge = shapes.build(torch.float32), judge_shapes("toy").build(torch.float32, 448 * 448)
    for name in ("transformer", "vae", "text_encoder", "text_encoder_2"):
        real, shape = getattr(real_editor, name), getattr(editor, name)
        assert {n: w.shape for n, w in shape.named_parameters()} == {n: w.shape for n, w in real.named_parameters()}
    assert weights_of(judge.model) == weights_of(real_judge.model)
    assert judge.pixels == real_judge.pixels
    condition = real_editor.encode(torch.zeros(2, 3, 64, 64), torch.ones(2, 1, 64, 64), ["a red star"] * 2)
    alike = shapes.condition(2, shapes.side(None), 64, torch.float32)
    assert alike.known_BLC.shape == condition.known_BLC.shape
    assert alike.text.tokens_BTD.shape == condition.text.tokens_BTD.shape
    assert alike.text.pooled_BD.shape == condition.text.pooled_BD.shape


def test_a_stand_in_tokenizer_is_near_the_real_one() -> None:
    """A token a word and mark, as Qwen2.5's own makes of common words; spelt in bytes it would be 300."""
    judge = judge_shapes("Qwen/Qwen2.5-VL-7B-Instruct")
    query = build_query(Task.FILL, Dimension.STRUCTURE, "a red star")
    assert 35 <= len(judge.tokenizer(query)["input_ids"]) <= 60


def test_an_adapters_folder_has_its_bases_sizes(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "toy"}))
    assert judge_shapes(str(tmp_path)).config.to_dict() == judge_shapes("toy").config.to_dict()


def test_a_size_in_pixels_is_a_square_of_the_editors_unit() -> None:
    flux = editor_shapes("bytedance-research/OneReward:flux.1-fill-dev-OneReward-transformer")
    assert [flux.side(None), flux.side(512 * 512), flux.side(500 * 500), flux.side(1)] == [1024, 512, 496, 16]
    assert flux.condition(1, 512, 512, torch.bfloat16).negative is not None  # its contract has true CFG


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="sizes of the editor 'someone/editor' are not known: expected toy"):
        editor_shapes("someone/editor")
    with pytest.raises(ValueError, match="sizes of the judge 'someone/judge' are not known: expected toy"):
        judge_shapes("someone/judge")
