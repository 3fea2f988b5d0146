"""Every form against stock diffusers: the image that an export gives is the image that our editor gives."""

import os
import re
from pathlib import Path

import numpy
import pytest
import torch
from diffusers import FluxFillPipeline, FluxTransformer2DModel
from peft import LoraConfig, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from onereward.export.forms import Form
from onereward.export.stage import ExportConfig, Exported, export
from onereward.models.contract import CONTRACT_FILE, contract_of_json, read_contract
from onereward.models.flux_names import original_of
from onereward.models.load import load_flux_fill
from onereward.models.lora import merge_lora, read_lora
from tests.tiny import TINY_CONTRACT, stock_edit, tiny_flux_fill_folder

Picture = numpy.ndarray[tuple[int, ...], numpy.dtype[numpy.float32]]
CLOSE = 2e-5
"""In pixel values from 0 to 1: a LoRA beside the weights rounds otherwise than one merged into them."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def tuned(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A full fine-tune of `base`: every parameter of the transformer moved, the other parts as they were."""
    pipeline = FluxFillPipeline.from_pretrained(base)
    generator = torch.Generator().manual_seed(2)
    for parameter in pipeline.transformer.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    folder = tmp_path_factory.mktemp("tuned")
    pipeline.save_pretrained(folder)
    (folder / CONTRACT_FILE).write_text((base / CONTRACT_FILE).read_text())
    (folder / "run.json").write_text(f'{{"steps": 7, "config": {{"editor": "{base}", "learning_rate": 1e-5}}}}')
    return folder


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA of every linear module as PEFT saves it, its alpha not its rank."""
    return _adapter(base, tmp_path_factory.mktemp("adapter"), ".+")


def _adapter(base: Path, folder: Path, modules: str) -> Path:
    transformer = FluxTransformer2DModel.from_pretrained(base, subfolder="transformer")
    linears = [name for name, module in transformer.named_modules() if isinstance(module, nn.Linear)]
    names = [name for name in linears if re.fullmatch(modules, name)]
    model = get_peft_model(transformer, LoraConfig(r=2, lora_alpha=3, target_modules=names))
    generator = torch.Generator().manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(folder)
    return folder


def ours(editor: Path, lora: Path | None = None) -> Picture:
    """The same image with the weights that our loader makes."""
    transformer = load_flux_fill(str(editor), lora=None if lora is None else str(lora)).transformer
    return stock_edit(FluxFillPipeline.from_pretrained(editor, transformer=transformer))


def difference(one: Picture, two: Picture) -> float:
    return float(numpy.abs(one - two).max())


def same_weights(folder: Path, editor: Path, lora: Path | None = None) -> bool:
    """Whether the transformer that stock diffusers finds in `folder` has every bit of ours."""
    stock = FluxTransformer2DModel.from_pretrained(folder, subfolder="transformer").state_dict()
    expected = load_flux_fill(str(editor), lora=None if lora is None else str(lora)).transformer.state_dict()
    return stock.keys() == expected.keys() and all(torch.equal(stock[key], expected[key]) for key in stock)


def write(output: Path, form: Form, editor: Path, **given: object) -> Exported:
    return export(ExportConfig(editor=str(editor), form=form, **given), output)


def test_a_trained_lora_in_stock_diffusers_gives_our_image(base: Path, adapter: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", Form.LORA, base, lora=str(adapter))
    expected = ours(base, adapter)
    assert difference(ours(base), expected) > 0.01
    pipeline = FluxFillPipeline.from_pretrained(base)
    pipeline.load_lora_weights(tmp_path / "out")
    assert difference(stock_edit(pipeline), expected) < CLOSE
    assert difference(ours(base, tmp_path / "out"), expected) < CLOSE


def test_diffusers_names_become_comfyui_names_and_come_back(base: Path, adapter: Path, tmp_path: Path) -> None:
    write(tmp_path / "first", Form.LORA, base, lora=str(adapter))
    exported = write(tmp_path / "comfyui", Form.COMFYUI_LORA, base, lora=str(tmp_path / "first"))
    assert exported == Exported(weights=tmp_path / "comfyui/comfyui.safetensors", kept=None)
    trained = read_lora(str(adapter)).layers
    assert {key.partition(".")[0] for key in load_file(exported.weights)} == {
        f"lora_unet_{original_of(name).replace('.', '_')}" for name in trained
    }
    write(tmp_path / "back", Form.LORA, base, lora=str(tmp_path / "comfyui"))
    first, back = (load_file(tmp_path / name / "pytorch_lora_weights.safetensors") for name in ("first", "back"))
    assert first.keys() == back.keys() and all(torch.equal(first[key], back[key]) for key in first)


def test_stock_diffusers_reads_the_comfyui_file_to_our_image(base: Path, tmp_path: Path) -> None:
    """Of the modules that its converter knows in this width: all of the double block, two of the single block."""
    modules = r"transformer_blocks\.0\..+|single_transformer_blocks\.0\.(norm\.linear|proj_out)"
    adapter = _adapter(base, tmp_path / "adapter", modules)
    assert len(read_lora(str(adapter)).layers) == 14 + 2
    exported = write(tmp_path / "out", Form.COMFYUI_LORA, base, lora=str(adapter))
    expected = ours(base, adapter)
    assert difference(ours(base), expected) > 0.001
    pipeline = FluxFillPipeline.from_pretrained(base)
    pipeline.load_lora_weights(exported.weights)
    assert difference(stock_edit(pipeline), expected) < CLOSE


def test_a_merged_folder_is_the_editor_with_its_lora(base: Path, adapter: Path, tmp_path: Path) -> None:
    exported = write(tmp_path / "out", Form.FOLDER, base, lora=str(adapter))
    assert exported == Exported(weights=tmp_path / "out", kept=None)
    assert difference(stock_edit(FluxFillPipeline.from_pretrained(exported.weights)), ours(base, adapter)) < CLOSE
    assert same_weights(exported.weights, base, adapter)
    assert load_flux_fill(str(exported.weights)).contract == load_flux_fill(str(base)).contract


def test_a_folder_is_the_editor(tuned: Path, tmp_path: Path) -> None:
    write(tmp_path / "out", Form.FOLDER, tuned)
    assert difference(stock_edit(FluxFillPipeline.from_pretrained(tmp_path / "out")), ours(tuned)) < CLOSE
    assert same_weights(tmp_path / "out", tuned)


def test_extraction_at_full_rank_gives_the_image_of_the_full_fine_tune(base: Path, tuned: Path, tmp_path: Path) -> None:
    expected = ours(tuned)
    assert difference(ours(base), expected) > 0.01
    exported = write(tmp_path / "out", Form.LORA, tuned, rank=1000)
    assert exported.kept == pytest.approx(1, abs=1e-6)
    pipeline = FluxFillPipeline.from_pretrained(base)
    pipeline.load_lora_weights(tmp_path / "out")
    assert difference(stock_edit(pipeline), expected) < CLOSE
    for form in (Form.LORA, Form.COMFYUI_LORA):
        folder = tmp_path / form
        write(folder, form, tuned, start=str(base), rank=1000)
        start = load_flux_fill(str(base)).transformer
        merge_lora(start, read_lora(str(folder)))
        weights = load_flux_fill(str(tuned)).transformer.state_dict()
        assert all(torch.allclose(start.state_dict()[key], weights[key], atol=1e-5, rtol=0) for key in weights)


def test_a_lower_rank_says_what_it_keeps(tuned: Path, tmp_path: Path) -> None:
    kept = [write(tmp_path / f"{rank}", Form.LORA, tuned, rank=rank).kept for rank in (1, 4)]
    assert 0.1 < kept[0] < kept[1] < 0.99
    assert f"keeps {100 * kept[0]:.1f} % of the squared change" in (tmp_path / "1/README.md").read_text()


def test_a_merged_lora_is_extracted_when_its_start_is_named(base: Path, adapter: Path, tmp_path: Path) -> None:
    """Rank 2 is all that there is to find again."""
    exported = write(tmp_path / "out", Form.LORA, base, lora=str(adapter), start=str(base), rank=2)
    assert exported.kept == pytest.approx(1, abs=1e-6)
    assert difference(ours(base, tmp_path / "out"), ours(base, adapter)) < CLOSE


def test_a_single_file_has_the_original_names_and_every_bit(base: Path, tmp_path: Path) -> None:
    exported = write(tmp_path / "flux", Form.SINGLE_FILE, base, dtype=torch.bfloat16)
    assert exported.weights == tmp_path / "flux/flux.safetensors"
    tensors = load_file(exported.weights)
    weights = load_flux_fill(str(base), dtype=torch.bfloat16).transformer.state_dict()
    assert tensors["img_in.weight"].dtype is torch.bfloat16
    assert torch.equal(tensors["img_in.weight"], weights["x_embedder.weight"])
    stacked = [weights[f"single_transformer_blocks.0.{name}.bias"] for name in ("attn.to_q", "attn.to_k", "attn.to_v")]
    stacked.append(weights["single_transformer_blocks.0.proj_mlp.bias"])
    assert torch.equal(tensors["single_blocks.0.linear1.bias"], torch.cat(stacked))
    assert sum(tensor.numel() for tensor in tensors.values()) == sum(tensor.numel() for tensor in weights.values())
    assert FluxTransformer2DModel.load_config(tmp_path / "flux")["num_layers"] == 1


@pytest.mark.parametrize("form", Form)
def test_the_contract_travels_and_the_card_lies_beside(base: Path, adapter: Path, tmp_path: Path, form: Form) -> None:
    exported = write(tmp_path / "out", form, base, lora=str(adapter))
    contract = load_flux_fill(str(base)).contract
    assert contract.guidance == TINY_CONTRACT.guidance
    assert read_contract(tmp_path / "out" / CONTRACT_FILE) == contract
    assert (tmp_path / "out/README.md").read_text().startswith("---\n")
    if form is not Form.FOLDER:
        with safe_open(exported.weights, framework="pt") as file:
            assert contract_of_json(file.metadata()[CONTRACT_FILE], "the file") == contract


def test_nothing_is_overwritten_and_nothing_half_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there/note.txt").write_text("mine")
    for form in Form:
        with pytest.raises(FileExistsError, match="exists already"):
            write(tmp_path / "there", form, base, start=str(base))
    with pytest.raises(ValueError, match="same weights"):
        write(tmp_path / "out", Form.LORA, base, start=str(base))
    with pytest.raises(ValueError, match=r"no run\.json in"):
        write(tmp_path / "out", Form.LORA, base)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for form in (Form.FOLDER, Form.SINGLE_FILE):
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / "out", form, base)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there/note.txt").read_text() == "mine"
