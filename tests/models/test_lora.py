"""LoRAs against PEFT and diffusers themselves: what is read, what merging adds, what is taken from a fine-tune."""

import copy
import logging
from pathlib import Path

import pytest
import torch
from diffusers import FluxFillPipeline, FluxTransformer2DModel
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn

from onereward.models.flux_names import original_of, parts_of
from onereward.models.lora import (
    Lora,
    LoraLayer,
    comfyui_tensors,
    diffusers_tensors,
    extract_lora,
    merge_lora,
    read_lora,
)

TINY = {
    "in_channels": 96,
    "out_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 8,
    "pooled_projection_dim": 8,
    "guidance_embeds": True,
    "axes_dims_rope": (2, 2, 4),
}


def tiny(seed: int = 0) -> FluxTransformer2DModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return FluxTransformer2DModel(**TINY).requires_grad_(False)


def linears(transformer: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}


def random_lora(transformer: nn.Module, rank: int = 3, *, extras: bool = False) -> Lora:
    """A LoRA of every linear module; with `extras` also biases and one normalisation."""
    generator = torch.Generator().manual_seed(5)

    def drawn(*shape: int) -> Tensor:
        return 0.1 * torch.randn(*shape, generator=generator)

    layers = {
        name: LoraLayer(
            down_RI=drawn(rank, module.in_features),
            up_OR=drawn(module.out_features, rank),
            bias_O=drawn(module.out_features) if extras else None,
        )
        for name, module in linears(transformer).items()
    }
    norms = {"transformer_blocks.1.attn.norm_k": drawn(8), "single_transformer_blocks.0.attn.norm_q": drawn(8)}
    return Lora(layers=layers, norms=norms if extras else {})


def merged(lora: Lora, scale: float = 1.0, seed: int = 0) -> dict[str, Tensor]:
    transformer = tiny(seed)
    merge_lora(transformer, lora, scale)
    return {name: tensor.clone() for name, tensor in transformer.state_dict().items()}


def largest_difference(one: dict[str, Tensor], two: dict[str, Tensor]) -> float:
    assert one.keys() == two.keys()
    return max(float((one[name].double() - two[name].double()).abs().max()) for name in one)


def peft_adapter(folder: Path, **settings: object) -> dict[str, Tensor]:
    """A trained-looking adapter as PEFT saves it, and the weights into which PEFT itself merges it."""
    config = LoraConfig(**{"r": 3, "lora_alpha": 5, "target_modules": [*linears(tiny())], **settings})
    model = get_peft_model(tiny(), config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    return {name: tensor.clone() for name, tensor in model.merge_and_unload().state_dict().items()}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"lora_bias": True},
        {
            "rank_pattern": {"to_k": 5, "^proj_out": 2},
            "alpha_pattern": {"proj_mlp": 7, r"transformer_blocks\.1\.attn\.to_q": 1},
        },
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_what_peft_saves_merges_as_in_peft(tmp_path: Path, settings: dict[str, object]) -> None:
    expected = peft_adapter(tmp_path, **settings)
    lora = read_lora(str(tmp_path))
    assert lora.layers.keys() == linears(tiny()).keys()
    found = merged(lora)
    assert largest_difference(found, expected) < 1e-6
    assert largest_difference(found, tiny().state_dict()) > 0.1


@pytest.mark.parametrize("how", ["metadata", "alpha keys", "neither"])
def test_diffusers_files_merge_as_in_diffusers(tmp_path: Path, how: str) -> None:
    lora = random_lora(tiny())
    tensors = diffusers_tensors(lora)
    metadata = None
    if how == "metadata":
        metadata = LoraConfig(r=3, lora_alpha=6, target_modules=[*lora.layers]).to_dict()
    if how == "alpha keys":
        tensors |= {f"{name}.alpha": torch.tensor(6.0) for name in lora.layers}
    FluxFillPipeline.save_lora_weights(
        tmp_path, transformer_lora_layers=tensors, transformer_lora_adapter_metadata=metadata
    )
    found = merged(read_lora(str(tmp_path / "pytorch_lora_weights.safetensors")))
    assert largest_difference(found, merged(lora, scale=1.0 if how == "neither" else 2.0)) < 1e-6

    stock = tiny()
    state, alphas, metadata = FluxFillPipeline.lora_state_dict(
        str(tmp_path), return_alphas=True, return_lora_metadata=True
    )
    FluxFillPipeline.load_lora_into_transformer(state, alphas, stock, metadata=metadata)
    stock.fuse_lora()
    stock.unload_lora()
    assert largest_difference(found, dict(stock.state_dict())) < 1e-6


def test_comfyui_names_map_one_to_one_to_every_trained_module() -> None:
    lora = random_lora(tiny(), extras=True)
    tensors = comfyui_tensors(lora)
    rows_of: dict[str, Tensor] = {}
    for original in {original_of(name) for name in lora.layers}:
        key = f"lora_unet_{original.replace('.', '_')}"
        down, up = tensors.pop(f"{key}.lora_down.weight"), tensors.pop(f"{key}.lora_up.weight")
        change = up @ down * (tensors.pop(f"{key}.alpha") / len(down))
        change = torch.cat([change, tensors.pop(f"{key}.diff_b")[:, None]], dim=1)
        if original == "final_layer.adaLN_modulation.1":
            change = torch.cat([change[len(change) // 2 :], change[: len(change) // 2]])
        counts = [len(lora.layers[part].up_OR) for part in parts_of(original)]
        for part, rows in zip(parts_of(original), change.split(counts), strict=True):
            assert part not in rows_of
            rows_of[part] = rows
    assert rows_of.keys() == lora.layers.keys()
    for name, layer in lora.layers.items():
        assert torch.allclose(rows_of[name][:, :-1], layer.up_OR @ layer.down_RI, atol=1e-6)
        assert torch.equal(rows_of[name][:, -1], layer.bias_O)
    assert {key: [*tensor] for key, tensor in tensors.items()} == {
        "lora_unet_double_blocks_1_img_attn_norm_key_norm.set_weight": [
            *lora.norms["transformer_blocks.1.attn.norm_k"]
        ],
        "lora_unet_single_blocks_0_norm_query_norm.set_weight": [
            *lora.norms["single_transformer_blocks.0.attn.norm_q"]
        ],
    }


def test_diffusers_reads_comfyui_names_in_the_real_width() -> None:
    """Its converter knows the width 3072 only, and forgets the prefix of modules outside the blocks."""
    with torch.device("meta"):
        shapes = FluxTransformer2DModel(in_channels=384, num_layers=1, num_single_layers=1, guidance_embeds=True)
    lora = random_lora(shapes, rank=2)
    back = FluxFillPipeline.lora_state_dict(comfyui_tensors(lora))
    back = {key.removeprefix("transformer."): tensor for key, tensor in back.items()}
    expected = diffusers_tensors(lora)
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[key], expected[key]) for key in back)


@pytest.mark.parametrize("spelling", ["kohya", "dots"])
def test_comfyui_names_are_read_back_bit_for_bit(tmp_path: Path, spelling: str) -> None:
    lora = random_lora(tiny(), extras=True)
    tensors = comfyui_tensors(lora)
    if spelling == "dots":
        names = {f"lora_unet_{original_of(name).replace('.', '_')}": original_of(name) for name in tiny_modules()}
        tensors = {
            f"diffusion_model.{names[key.partition('.')[0]]}.{key.partition('.')[2]}": tensor
            for key, tensor in tensors.items()
        }
    save_file(tensors, tmp_path / "comfyui.safetensors")
    back = read_lora(str(tmp_path))
    assert largest_difference(diffusers_tensors(back), diffusers_tensors(lora)) == 0


def tiny_modules() -> list[str]:
    return [name for name, module in tiny().named_modules() if getattr(module, "weight", None) is not None]


def test_a_layer_trained_alone_keeps_its_rows_in_the_fused_one(tmp_path: Path) -> None:
    every = random_lora(tiny())
    names = ["transformer_blocks.0.attn.add_k_proj", "single_transformer_blocks.1.attn.to_v"]
    lora = Lora(layers={name: every.layers[name] for name in names})
    tensors = comfyui_tensors(lora)
    assert tensors["lora_unet_single_blocks_1_linear1.lora_up.weight"].shape == (7 * 16, 3)
    save_file(tensors, tmp_path / "alone.safetensors")
    back = read_lora(str(tmp_path))
    assert largest_difference(diffusers_tensors(back), diffusers_tensors(lora)) == 0


def test_alpha_that_would_round_is_kept_in_float32(tmp_path: Path) -> None:
    tensors = {
        "lora_unet_img_in.lora_down.weight": torch.randn(3, 96).bfloat16(),
        "lora_unet_img_in.lora_up.weight": torch.randn(16, 3).bfloat16(),
        "lora_unet_img_in.alpha": torch.tensor(5.0),
    }
    save_file(tensors, tmp_path / "file.safetensors")
    layer = read_lora(str(tmp_path)).layers["x_embedder"]
    assert torch.equal(layer.up_OR, tensors["lora_unet_img_in.lora_up.weight"].float() * (5 / 3))
    tensors["lora_unet_img_in.alpha"] = torch.tensor(6.0)
    save_file(tensors, tmp_path / "file.safetensors")
    layer = read_lora(str(tmp_path)).layers["x_embedder"]
    assert torch.equal(layer.up_OR, tensors["lora_unet_img_in.lora_up.weight"] * 2)
    assert layer.up_OR.dtype is torch.bfloat16


def test_half_a_lora_is_half_the_change() -> None:
    lora, start = random_lora(tiny(), extras=True), tiny().state_dict()
    half, whole = merged(lora, scale=0.5), merged(lora)
    middle = {name: (start[name] + whole[name]) / 2 for name in start}
    assert largest_difference(half, middle) < 1e-6
    assert torch.equal(whole["transformer_blocks.1.attn.norm_k.weight"], lora.norms["transformer_blocks.1.attn.norm_k"])


def test_a_lora_of_another_transformer_is_refused_and_changes_nothing() -> None:
    lora = random_lora(tiny())
    smaller = FluxTransformer2DModel(**{**TINY, "num_layers": 1})
    before = copy.deepcopy(smaller.state_dict())
    with pytest.raises(ValueError, match=r"this one has no transformer_blocks\.1\.attn\.add_k_proj, .* and 9 more"):
        merge_lora(smaller, lora)
    wider = FluxTransformer2DModel(**{**TINY, "in_channels": 64})
    with pytest.raises(ValueError, match=r"other shapes: x_embedder \(its \(16, 96\), here \(16, 64\)\)"):
        merge_lora(wider, lora)
    assert largest_difference(before, smaller.state_dict()) == 0


def test_what_a_lora_says_of_text_encoders_is_left_out_aloud(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lora = random_lora(tiny())
    text = {"text_encoder.text_model.encoder.layers.0.mlp.fc1.lora_A.weight": torch.zeros(1, 1)}
    save_file(
        {f"transformer.{key}": t for key, t in diffusers_tensors(lora).items()} | text, tmp_path / "a.safetensors"
    )
    with caplog.at_level(logging.WARNING, logger="onereward"):
        back = read_lora(str(tmp_path))
    assert back.layers.keys() == lora.layers.keys()
    assert "these 1 tensors are left out" in caplog.text


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    pair = {"lora_down.weight": torch.zeros(1, 2), "lora_up.weight": torch.zeros(2, 1)}
    whole = {"transformer.x_embedder.weight": torch.zeros(2, 2)}
    cases = {
        "sdxl": ({f"lora_unet_down_blocks_0.{key}": pair[key] for key in pair}, "no module of FLUX"),
        "half": ({"lora_unet_img_in.lora_up.weight": pair["lora_up.weight"]}, "expected both halves"),
        "whole": (whole, "expected both halves"),
        "other": ({"transformer.x_embedder.diff": torch.zeros(2, 2)}, r"no LoRA of linear modules has: .*\.diff"),
        "bare": ({"base_model.model.x_embedder.lora_A.weight": torch.zeros(1, 2)}, "expected adapter_config.json"),
    }
    for name, (tensors, message) in cases.items():
        save_file(tensors, tmp_path / f"{name}.safetensors")
        with pytest.raises(ValueError, match=rf"{name}\.safetensors: .*{message}"):
            read_lora(str(tmp_path / f"{name}.safetensors"))
    with pytest.raises(ValueError, match="name the LoRA's file itself"):
        read_lora(str(tmp_path))
    with pytest.raises(ValueError, match=r"no LoRA at \./nowhere"):
        read_lora("./nowhere")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ValueError, match="cannot read a LoRA"):
        read_lora(str(tmp_path / "text.safetensors"))


def test_a_dora_is_refused(tmp_path: Path) -> None:
    get_peft_model(tiny(), LoraConfig(r=2, target_modules=["x_embedder"], use_dora=True)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="DoRA"):
        read_lora(str(tmp_path))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_extraction_at_full_rank_is_the_whole_fine_tune(dtype: torch.dtype, tolerance: float) -> None:
    start, tuned = tiny(0).to(dtype), tiny(1).to(dtype)
    for parameter in tuned.parameters():
        parameter += 0.1
    extraction = extract_lora(start, tuned, rank=1000)
    merge_lora(start, extraction.lora)
    assert largest_difference(start.state_dict(), tuned.state_dict()) < tolerance
    assert extraction.energy == pytest.approx(1)
    assert extraction.lora.layers.keys() == linears(start).keys()
    assert len(extraction.lora.norms) == 2 * 4 + 2 * 2


def test_extraction_keeps_the_largest_singular_values_and_says_their_share() -> None:
    start, tuned = tiny(), tiny()
    change = torch.zeros(16, 8)
    change[0, 0], change[1, 1], change[2, 2] = 4.0, 2.0, 1.0
    tuned.context_embedder.weight += change
    extraction = extract_lora(start, tuned, rank=2)
    [layer] = extraction.lora.layers.values()
    change[2, 2] = 0
    assert torch.allclose(layer.up_OR @ layer.down_RI, change, atol=1e-5)
    assert layer.bias_O is None and not extraction.lora.norms
    assert extraction.energy == pytest.approx((16 + 4) / 21, rel=1e-5)


def test_extraction_calls_back_after_each_module_and_refuses_what_has_no_answer() -> None:
    calls: list[None] = []
    extract_lora(tiny(0), tiny(1), 1, on_module=lambda: calls.append(None))
    assert len(calls) == len(linears(tiny()))
    with pytest.raises(ValueError, match="same weights"):
        extract_lora(tiny(), tiny(), 1)
    with pytest.raises(ValueError, match="rank 0"):
        extract_lora(tiny(0), tiny(1), 0)
    with pytest.raises(ValueError, match="differ in shape"):
        extract_lora(FluxTransformer2DModel(**{**TINY, "num_layers": 1}), tiny(), 1)


def test_only_a_bias_moved(tmp_path: Path) -> None:
    start, tuned = tiny(), tiny()
    tuned.transformer_blocks[0].attn.to_k.bias += 1
    lora = extract_lora(start, tuned, 4).lora
    save_file(comfyui_tensors(lora), tmp_path / "bias.safetensors")
    for each in (lora, read_lora(str(tmp_path))):
        assert largest_difference(merged(each), tuned.state_dict()) == 0


def test_one_file_has_one_precision() -> None:
    lora = random_lora(tiny())
    layers = {
        name: LoraLayer(down_RI=layer.down_RI.bfloat16(), up_OR=layer.up_OR) for name, layer in lora.layers.items()
    }
    for tensors in (diffusers_tensors(Lora(layers=layers)), comfyui_tensors(Lora(layers=layers))):
        assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
