"""Editors from and to folders: a pipeline, a transformer on a base, a LoRA; the contract travels with the weights."""

import errno
import json
from pathlib import Path

import numpy
import pytest
import torch
from diffusers import FluxFillPipeline, FluxTransformer2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from PIL import Image

from onereward.flow.shift import Shift
from onereward.models.contract import RELEASED, Contract, read_contract
from onereward.models.load import load_flux_fill, save_editor
from onereward.terms import Task
from tests.tiny import SEQUENCE_LENGTH, TINY_CONTRACT, tiny_flux_fill_folder


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
    save_editor(tmp_path / "saved", load_flux_fill(str(base)), transformer=tuned)
    noise = numpy.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=numpy.uint8)
    mask = Image.new("L", (32, 32))
    mask.paste(255, (6, 6, 20, 20))

    def edited(pipeline: FluxFillPipeline) -> numpy.ndarray:
        pipeline.set_progress_bar_config(disable=True)
        return pipeline(
            prompt="a red star",
            image=Image.fromarray(noise),
            mask_image=mask,
            height=32,
            width=32,
            num_inference_steps=2,
            max_sequence_length=SEQUENCE_LENGTH,
            generator=torch.Generator().manual_seed(0),
            output_type="np",
        ).images

    expected = edited(FluxFillPipeline.from_pretrained(base, transformer=tuned))
    assert numpy.array_equal(edited(FluxFillPipeline.from_pretrained(tmp_path / "saved")), expected)
    assert not numpy.array_equal(edited(FluxFillPipeline.from_pretrained(base)), expected)
    again = load_flux_fill(str(tmp_path / "saved"))
    assert again.contract == TINY_CONTRACT and equal(weights(again.transformer), weights(tuned))


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


def test_the_contract_of_the_released_editors() -> None:
    released = RELEASED["bytedance-research/OneReward"]
    assert (released.guidance, released.true_cfg, released.negative_prompt) == (1.0, 4.0, "nsfw")
    assert (released.steps, released.max_sequence_length, released.size_multiple) == (50, 512, 16)
    assert (Contract().guidance, Contract().true_cfg) == (30.0, 1.0)


def test_a_contract_file_with_unknown_fields_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "onereward.json"
    file.write_text(json.dumps({"steps": 8, "guidence": 1}))
    with pytest.raises(ValueError, match="unknown fields guidence; known: guidance"):
        read_contract(file)


def test_the_words_of_a_task() -> None:
    contract = Contract(remove_prompt="gone", extend_prompt="more")
    asked = {"remove": "a cat", "extend": "", "fill": "a cat", "text": 'a sign "A"'}
    words = {task: contract.prompt_for(Task(task), prompt) for task, prompt in asked.items()}
    assert words == {"remove": "gone", "extend": "more", "fill": "a cat", "text": 'a sign "A"'}
    with pytest.raises(ValueError, match="task fill got an empty prompt"):
        contract.prompt_for(Task.FILL, "")
