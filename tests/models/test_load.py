"""Editors from and to folders: a pipeline, a transformer on a base, a LoRA; the contract travels with the weights."""

import errno
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import gguf
import numpy
import pytest
import torch
from diffusers import FluxFillPipeline, FluxTransformer2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from onereward.flow.shift import Shift
from onereward.models.contract import Contract, save_contract
from onereward.models.copies import AdapterCopies
from onereward.models.execution import Execution
from onereward.models.flux_fill import FluxFill
from onereward.models.flux_names import to_original
from onereward.models.load import load_contract, load_flux_fill, save_editor, save_lora
from onereward.runtime.shard import whole_state
from tests.tiny import TINY_CONTRACT, stock_edit, tiny_flux_fill_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of transformers only, one a subfolder, as `bytedance-research/OneReward` is laid out."""
    pipeline = tiny_flux_fill_folder(tmp_path_factory.mktemp("pipeline"), contract=None, seed=1)
    folder = tmp_path_factory.mktemp("transformers")
    (pipeline / "transformer").rename(folder / "tuned")
    return folder


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_what_is_saved_the_stock_pipeline_loads_with_equal_images(base: Path, other: Path, tmp_path: Path) -> None:
    tuned = FluxTransformer2DModel.from_pretrained(other / "tuned")
    save_editor(tmp_path / "saved", load_flux_fill(str(base)), state=tuned.state_dict())
    expected = stock_edit(FluxFillPipeline.from_pretrained(base, transformer=tuned))
    assert numpy.array_equal(stock_edit(FluxFillPipeline.from_pretrained(tmp_path / "saved")), expected)
    assert not numpy.array_equal(stock_edit(FluxFillPipeline.from_pretrained(base)), expected)
    again = load_flux_fill(str(tmp_path / "saved"))
    assert again.contract == TINY_CONTRACT and equal(weights(again.transformer), weights(tuned))


def test_saved_adapters_load_on_the_base_that_they_name_and_in_stock(base: Path, tmp_path: Path) -> None:
    editor = load_flux_fill(str(base))
    copies = AdapterCopies(editor.transformer, rank=2, seed=0)
    with torch.no_grad():
        for parameter in copies.module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05)
    state = whole_state(copies.module, trained_only=True)
    save_lora(tmp_path / "saved", editor, base=str(base), lora=copies.lora, state=state)
    again = load_flux_fill(str(tmp_path / "saved"))
    assert again.contract == editor.contract
    latents, condition = (
        torch.randn(1, 16, 16),
        editor.encode(torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 32, 32), ["a red star"]),
    )
    with torch.no_grad():
        trained, start = (
            editor.velocity(latents, torch.tensor([0.5]), condition, transformer=state)
            for state in (copies.policy, copies.start)
        )
        loaded = again.velocity(latents, torch.tensor([0.5]), condition)
    assert (loaded - trained).abs().max() < 1e-5 < (start - trained).abs().max()
    stock = FluxFillPipeline.from_pretrained(base)
    stock.load_lora_weights(tmp_path / "saved")
    plain = FluxFillPipeline.from_pretrained(base)
    plain.transformer.load_state_dict(again.transformer.state_dict())
    assert numpy.allclose(stock_edit(stock), stock_edit(plain), atol=2e-5)


def test_another_contract_can_be_saved(base: Path, tmp_path: Path) -> None:
    save_editor(tmp_path / "saved", load_flux_fill(str(base)), contract=Contract(steps=7))
    assert load_flux_fill(str(tmp_path / "saved")).contract == Contract(steps=7, shift=Shift())


@pytest.mark.parametrize("spelling", ["{other}:tuned", "{other}/tuned"])
def test_a_lone_transformer_takes_the_rest_from_its_base(base: Path, other: Path, spelling: str) -> None:
    editor, whole = load_flux_fill(spelling.format(other=other), base=str(base)), load_flux_fill(str(base))
    assert equal(weights(editor.vae), weights(whole.vae))
    assert equal(weights(editor.transformer), weights(FluxTransformer2DModel.from_pretrained(other / "tuned")))
    assert not equal(weights(editor.transformer), weights(whole.transformer))
    assert editor.contract == TINY_CONTRACT  # its base's: it has none of its own


def test_a_lora_is_merged(base: Path, tmp_path: Path) -> None:
    transformer = FluxTransformer2DModel.from_pretrained(base / "transformer")
    before = weights(transformer)
    torch.manual_seed(0)
    transformer.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q"], init_lora_weights=False))
    lora = get_peft_model_state_dict(transformer)
    FluxFillPipeline.save_lora_weights(tmp_path, transformer_lora_layers=lora)
    merged = weights(load_flux_fill(str(base), lora=str(tmp_path)).transformer)
    assert merged.keys() == before.keys()
    changed = {name for name in merged if not torch.equal(merged[name], before[name])}
    assert changed == {name for name in before if name.endswith("to_q.weight")}
    for name in changed:
        stem = name.removesuffix("weight")
        update = lora[f"{stem}lora_B.weight"] @ lora[f"{stem}lora_A.weight"]  # times alpha / r = 1
        assert torch.allclose(merged[name], before[name] + update, atol=1e-6)


@pytest.fixture(scope="module")
def single_file(base: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The other transformer as ComfyUI users hold it."""
    state = to_original(FluxTransformer2DModel.from_pretrained(other / "tuned").state_dict())
    file = tmp_path_factory.mktemp("comfyui") / "flux1-fill-dev.safetensors"
    save_file(state, file)
    return file


@pytest.mark.parametrize("name", ["flux1-fill-dev.sft", "prefixed.safetensors"])
def test_a_single_file_takes_the_rest_from_its_base(
    base: Path, other: Path, single_file: Path, tmp_path: Path, name: str
) -> None:
    prefix = "model.diffusion_model." if name.startswith("prefixed") else ""
    save_file({f"{prefix}{key}": tensor for key, tensor in load_file(single_file).items()}, tmp_path / name)
    editor = load_flux_fill(str(tmp_path / name), base=str(base), dtype=torch.bfloat16)
    expected = FluxTransformer2DModel.from_pretrained(other / "tuned", dtype=torch.bfloat16)
    assert equal(weights(editor.transformer), weights(expected))
    assert equal(weights(editor.vae), weights(load_flux_fill(str(base), dtype=torch.bfloat16).vae))
    assert editor.contract == TINY_CONTRACT


def test_a_contract_beside_a_single_file_is_its_own(base: Path, single_file: Path, tmp_path: Path) -> None:
    file = Path(shutil.copy(single_file, tmp_path))
    own = replace(TINY_CONTRACT, steps=9)
    save_contract(tmp_path, own)
    assert load_flux_fill(str(file), base=str(base)).contract == own


def test_a_spoilt_single_file_is_one_line(base: Path, single_file: Path, tmp_path: Path) -> None:
    whole, file = load_file(single_file), tmp_path / "spoilt.safetensors"
    lacking = {key: tensor for key, tensor in whole.items() if key != "img_in.bias"}
    spoilt = {
        "lacks x_embedder.bias": lacking,
        "'vae' is no module of FLUX": {**whole, "vae.weight": torch.zeros(1)},
        r"x_embedder.bias of shape \(3,\), expected \(16,\)": {**whole, "img_in.bias": torch.zeros(3)},
    }
    for message, tensors in spoilt.items():
        save_file(tensors, file)
        with pytest.raises(ValueError, match=rf"cannot load an editor from .*spoilt\.safetensors.*{message}"):
            load_flux_fill(str(file), base=str(base))
    file.write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"cannot load an editor from .*header"):
        load_flux_fill(str(file), base=str(base))
    with pytest.raises(ValueError, match=r"cannot load an editor from .*gone\.gguf"):
        load_flux_fill(str(tmp_path / "gone.gguf"), base=str(base))


def test_gguf_weights_stay_quantized_and_give_nearly_the_same_velocity(
    base: Path, single_file: Path, tmp_path: Path
) -> None:
    file, kinds = tmp_path / "flux1-fill-dev-Q8_0.gguf", Counter[gguf.GGMLQuantizationType]()
    writer = gguf.GGUFWriter(file, "flux")
    for key, tensor in load_file(single_file).items():
        values = tensor.numpy()
        kind = gguf.GGMLQuantizationType.F32
        if values.ndim == 2 and values.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            values = gguf.quants.quantize(values, kind)
        kinds[kind] += 1
        writer.add_tensor(key, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert kinds[gguf.GGMLQuantizationType.Q8_0] >= 3
    small, exact = (load_flux_fill(str(one), base=str(base)) for one in (file, single_file))
    assert torch.uint8 in {parameter.dtype for parameter in small.transformer.parameters()}
    velocities = [velocity_of(editor) for editor in (small, exact)]
    error = (velocities[0] - velocities[1]).square().mean().sqrt() / velocities[1].std()
    assert 0 < float(error) < 0.02
    with pytest.raises(ValueError, match="the editor's weights are quantized: load it without"):
        save_editor(tmp_path / "saved", small)
    adapted = load_flux_fill(str(file), base=str(base), lora=str(a_lora(base, tmp_path / "lora")))
    merged = load_flux_fill(str(single_file), base=str(base), lora=str(tmp_path / "lora"))
    changes = [velocity_of(after) - before for after, before in zip((adapted, merged), velocities, strict=True)]
    assert float((changes[0] - changes[1]).norm() / changes[1].norm()) < 0.1
    with pytest.raises(ValueError, match="a GGUF file is quantized already, got quantize fp8"):
        load_flux_fill(str(file), base=str(base), execution=Execution(quantize="fp8"))


@torch.no_grad()
def velocity_of(editor: FluxFill) -> torch.Tensor:
    image = torch.linspace(-1, 1, 32 * 32 * 3).reshape(1, 3, 32, 32)
    condition = editor.encode(image, (image[:, :1] > 0).float(), ["a red star"])
    return editor.velocity(editor.noise(condition, [(0,)]), torch.tensor([0.7]), condition)


def a_lora(base: Path, folder: Path) -> Path:
    """A random LoRA of rank 2 in diffusers' format."""
    transformer = FluxTransformer2DModel.from_pretrained(base / "transformer")
    torch.manual_seed(0)
    targets = ["to_q", "to_v", "proj_mlp"]
    transformer.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets, init_lora_weights=False))
    FluxFillPipeline.save_lora_weights(folder, transformer_lora_layers=get_peft_model_state_dict(transformer))
    return folder


def test_a_lora_brings_its_own_contract(base: Path, tmp_path: Path) -> None:
    lora, own = a_lora(base, tmp_path / "lora"), replace(TINY_CONTRACT, steps=5, true_cfg=4.0)
    assert load_flux_fill(str(base), lora=str(lora)).contract == TINY_CONTRACT
    save_contract(lora, own)
    for name in (lora, lora / "pytorch_lora_weights.safetensors"):
        assert load_flux_fill(str(base), lora=str(name)).contract == own == load_contract(str(base), lora=str(name))


@pytest.mark.parametrize("stated", [True, False])
def test_the_contract_is_read_without_weights(base: Path, tmp_path: Path, stated: bool) -> None:
    folder = shutil.copytree(base, tmp_path / "editor")
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    save_contract(folder, replace(TINY_CONTRACT, shift=Shift(max_mu=3.0) if stated else None))
    assert load_contract(str(folder)) == replace(TINY_CONTRACT, shift=Shift(max_mu=3.0) if stated else Shift())


def test_a_released_editor_s_contract_needs_no_hub() -> None:
    name = "bytedance-research/OneReward"
    assert load_contract("toy").shift is not None
    with pytest.raises(ValueError, match="is not in the local cache"):  # the whole loading needs the pipeline
        load_flux_fill(f"{name}:flux.1-fill-dev-OneReward-transformer")


def test_weights_lie_in_memory_of_their_own(base: Path) -> None:
    transformer = load_flux_fill(str(base)).transformer
    assert all(parameter.data_ptr() % 16 == 0 for parameter in transformer.parameters())
    starts = [parameter.untyped_storage().data_ptr() for parameter in transformer.parameters()]
    assert len(set(starts)) == len(starts)


@pytest.mark.parametrize("name", ["no/such-editor", "./nowhere"])
def test_a_name_without_an_editor_says_what_is_expected(name: str) -> None:
    with pytest.raises(ValueError, match=r"cannot load an editor from .*expected 'toy', a folder"):
        load_flux_fill(name)


def test_a_missing_lora_is_named(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"LoRA .*gone"):
        load_flux_fill(str(base), lora=str(tmp_path / "gone"))


def test_saving_overwrites_nothing_and_leaves_nothing_half_written(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor, folder = load_flux_fill(str(base)), tmp_path / "saved"
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        patch.setattr("onereward.models.load.save_contract", full)
        with pytest.raises(OSError, match="No space left"):
            save_editor(folder, editor)
    assert list(tmp_path.iterdir()) == []
    save_editor(folder, editor)
    with pytest.raises(FileExistsError, match="exists already"):
        save_editor(folder, editor)
