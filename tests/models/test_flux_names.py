"""The original names against diffusers' own converter and against every module of the whole FLUX."""

from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.loaders.single_file_utils import convert_flux_transformer_checkpoint_to_diffusers
from safetensors.torch import save_file
from torch import Tensor, nn

from onereward.models.flux_names import original_named, original_of, parts_of, row_shares, to_original

FILL = {"in_channels": 384, "out_channels": 64, "guidance_embeds": True}


@pytest.fixture(scope="module")
def whole() -> FluxTransformer2DModel:
    """FLUX.1-Fill in its full size, shapes only."""
    with torch.device("meta"):
        return FluxTransformer2DModel(**FILL)


@pytest.fixture(scope="module")
def narrow_state(whole: FluxTransformer2DModel) -> dict[str, Tensor]:
    """Its state with every row there but one column of each, all numbers different."""
    numbers = iter(range(10**9))
    return {
        key: torch.tensor([next(numbers) for _ in range(len(tensor))]).reshape([-1] + [1] * (tensor.ndim - 1))
        for key, tensor in whole.state_dict().items()
    }


def test_every_module_has_rows_of_its_own_and_no_row_is_left_over(whole: FluxTransformer2DModel) -> None:
    modules = {name: module for name, module in whole.named_modules() if getattr(module, "weight", None) is not None}
    assert sum(isinstance(module, nn.Linear) for module in modules.values()) == 504
    originals = {original_of(name) for name in modules}
    placed = [part for original in originals for part in parts_of(original)]
    assert sorted(placed) == sorted(modules)
    for original in originals:
        rows = [len(modules[part].weight) for part in parts_of(original)]
        assert rows == [rows[0] * share for share in row_shares(original)]


def test_diffusers_converts_it_back_bit_for_bit(narrow_state: dict[str, Tensor]) -> None:
    original = to_original(narrow_state)
    assert len(original) == 780  # as many tensors as flux1-fill-dev.safetensors has
    back = convert_flux_transformer_checkpoint_to_diffusers(dict(original))
    assert back.keys() == narrow_state.keys()
    assert all(torch.equal(back[key], narrow_state[key]) for key in back)


def test_the_stock_single_file_loader_gives_the_same_weights(tmp_path: Path) -> None:
    """One block of each kind in the real width, since diffusers' converter knows no other."""
    config = {**FILL, "num_layers": 1, "num_single_layers": 1, "joint_attention_dim": 8, "pooled_projection_dim": 8}
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(**config)
    transformer = transformer.to(torch.bfloat16).to_empty(device="cpu")
    for number, parameter in enumerate(transformer.parameters()):
        bits = torch.arange(parameter.numel(), dtype=torch.int16).add_(number)
        parameter.data = bits.remainder_(16000).view(torch.bfloat16).view(parameter.shape)  # below infinity and NaN
    file = tmp_path / "flux.safetensors"
    save_file(to_original(transformer.state_dict()), file)
    transformer.save_config(tmp_path)
    stock = FluxTransformer2DModel.from_single_file(str(file), config=str(tmp_path), dtype=torch.bfloat16)
    file.unlink()  # a gigabyte
    expected, loaded = transformer.state_dict(), stock.state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[key].view(torch.int16), expected[key].view(torch.int16)) for key in expected)


@pytest.mark.parametrize(
    ("text", "original"),
    [
        ("double_blocks_12_img_attn_norm_query_norm", "double_blocks.12.img_attn.norm.query_norm"),
        ("double_blocks.0.txt_mlp.2", "double_blocks.0.txt_mlp.2"),
        ("single_blocks_37_linear1", "single_blocks.37.linear1"),
        ("final_layer_adaLN_modulation_1", "final_layer.adaLN_modulation.1"),
        ("time_in_in_layer", "time_in.in_layer"),
    ],
)
def test_a_key_of_a_lora_names_its_module(text: str, original: str) -> None:
    assert original_named(text) == original


@pytest.mark.parametrize("text", ["down_blocks_0_attentions_0", "double_blocks_x_img_mlp_0", "double_blocks_0_linear1"])
def test_what_is_not_of_flux_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no module of FLUX"):
        original_named(text)
    with pytest.raises(ValueError, match="no module of FLUX"):
        original_of(text)
