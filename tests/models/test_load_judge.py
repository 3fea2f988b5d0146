"""Judges from and to folders: whole models, adapters, 8 and 4 bits; what is no judge says so in one line."""

import json
import re
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from onereward.models.judge_contract import JudgeContract, Probability, save_judge_contract
from onereward.models.load_judge import JudgeQuantize, load_qwen_vl, save_judge, saved_dtype
from onereward.models.qwen_vl import QwenVLJudge
from onereward.query import Variant
from onereward.terms import Dimension
from tests.tiny import tiny_flux_fill_folder
from tests.tiny_judge import tiny_judge_folder, tiny_qwen3_folder

QUERIES = [["Is the **first** image better?", "Structure?"], ["Is it?"]]
CONTRACT = JudgeContract(
    answers=("no", "yes"),
    probability=Probability.FULL,
    variant=Variant.TASK,
    temperatures={Dimension.STRUCTURE: 1.25, Dimension.REMOVAL_QUALITY: 0.5},
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_judge_folder(tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def qwen3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_qwen3_folder(tmp_path_factory.mktemp("qwen3"))


def images() -> tuple[Tensor, Tensor]:
    first, second = torch.rand(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return first, second


@torch.no_grad()
def odds(judge: QwenVLJudge) -> Tensor:
    return judge.log_odds(*images(), QUERIES).nan_to_num()


def same_weights(one: nn.Module, two: nn.Module) -> bool:
    ours, theirs = one.state_dict(), two.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


# Whole models.


def test_the_folder_is_the_stock_classes_own(folder: Path, qwen3: Path, tmp_path: Path) -> None:
    """Read as they read it, and written so that they read it again."""
    classes = {folder: Qwen2_5_VLForConditionalGeneration, qwen3: Qwen3VLForConditionalGeneration}
    for number, (path, stock) in enumerate(classes.items()):
        judge, saved = load_qwen_vl(str(path)), tmp_path / str(number)
        assert type(judge.model) is stock
        assert same_weights(judge.model, stock.from_pretrained(path))
        save_judge(saved, judge)
        assert same_weights(stock.from_pretrained(saved), judge.model)
        assert Qwen2Tokenizer.from_pretrained(saved).get_vocab() == judge.tokenizer.get_vocab()
        assert Qwen2VLImageProcessorPil.from_pretrained(saved).patch_size == judge.pixels.patch_size
        again = load_qwen_vl(str(saved))
        assert (again.pixels, again.contract) == (judge.pixels, judge.contract)
        assert torch.equal(odds(again), odds(judge))


def test_weights_lie_in_memory_of_their_own(folder: Path) -> None:
    parameters = list(load_qwen_vl(str(folder)).model.parameters())
    assert all(parameter.data_ptr() % 16 == 0 for parameter in parameters)
    starts = [parameter.untyped_storage().data_ptr() for parameter in parameters]
    assert len(set(starts)) == len(starts)


def test_tied_weights_stay_tied(folder: Path) -> None:
    model = load_qwen_vl(str(folder), trainable=True).model
    assert model.lm_head.weight is model.model.language_model.embed_tokens.weight


def test_a_judge_is_frozen_unless_it_is_to_be_trained(folder: Path) -> None:
    assert not any(parameter.requires_grad for parameter in load_qwen_vl(str(folder)).model.parameters())
    assert all(parameter.requires_grad for parameter in load_qwen_vl(str(folder), trainable=True).model.parameters())


def test_the_precision_is_the_folder_s_unless_it_is_named(folder: Path, tmp_path: Path) -> None:
    save_judge(tmp_path, load_qwen_vl(str(folder), dtype=torch.bfloat16))
    assert saved_dtype(str(folder)) == load_qwen_vl(str(folder)).model.dtype == torch.float32
    assert saved_dtype(str(tmp_path)) == load_qwen_vl(str(tmp_path)).model.dtype == torch.bfloat16
    assert load_qwen_vl(str(tmp_path), dtype=torch.float64).model.dtype == torch.float64


def test_the_shipped_judge_loads_by_name() -> None:
    assert odds(load_qwen_vl("toy")).isfinite().all()


def test_max_pixels_bounds_what_it_sees(folder: Path) -> None:
    assert load_qwen_vl(str(folder), max_pixels=64 * 64).pixels.target_size(256, 256) == (64, 64)
    assert load_qwen_vl(str(folder)).pixels.target_size(256, 256) == (256, 256)


# The contract.


def test_the_contract_travels_with_the_weights(folder: Path, tmp_path: Path) -> None:
    judge = load_qwen_vl(str(folder))
    assert judge.contract == JudgeContract(), "a folder that states none is a judge that nobody tuned"
    save_judge(tmp_path, judge.with_contract(**vars(CONTRACT)))
    again = load_qwen_vl(str(tmp_path))
    assert again.contract == CONTRACT
    assert torch.equal(odds(again), -odds(judge)), "its answers are the other way round"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"guidance": 1}', "onereward.json is no judge's contract: got guidance"),
        ('{"temperatures": {"structure": 0}}', "onereward.json is no judge's contract: got a temperature of 0"),
        ('{"answers": ["yes", "yes"]}', "onereward.json is no judge's contract: .* two different words"),
        ('{"answers": ["yes", "certainly not"]}', "the judge's answer 'certainly not' is [0-9]+ tokens"),
    ],
)
def test_a_spoilt_contract_is_named(folder: Path, tmp_path: Path, text: str, message: str) -> None:
    spoilt = Path(shutil.copytree(folder, tmp_path / "judge"))
    (spoilt / "onereward.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_qwen_vl(str(spoilt))


# Adapters.


def add_adapter(judge: QwenVLJudge, *, seed: int = 0) -> PeftModel:
    """A LoRA on language model and vision tower whose weights are not zero."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        targets = ["q_proj", "v_proj", "down_proj", "qkv"]
        return get_peft_model(judge.model, LoraConfig(r=2, target_modules=targets, init_lora_weights=False))


@pytest.mark.parametrize("family", ["qwen2.5", "qwen3"])
def test_an_adapter_is_merged_into_its_base(folder: Path, qwen3: Path, tmp_path: Path, family: str) -> None:
    base = folder if family == "qwen2.5" else qwen3
    judge = load_qwen_vl(str(base), dtype=torch.float64)
    before = odds(judge)
    add_adapter(judge).save_pretrained(tmp_path)
    expected = odds(judge)  # through PEFT's own layers
    merged = load_qwen_vl(str(tmp_path), dtype=torch.float64)
    assert type(merged.model) is type(load_qwen_vl(str(base)).model)
    assert (odds(merged) - expected).abs().max() < 1e-6  # the norms work in float32
    assert (expected - before).abs().max() > 1e-2
    assert merged.pixels == judge.pixels and merged.tokenizer.get_vocab() == judge.tokenizer.get_vocab()
    assert not any(parameter.requires_grad for parameter in merged.model.parameters())
    assert saved_dtype(str(tmp_path)) == torch.float32


def test_an_adapter_folder_of_ours_loads_alone_and_by_peft(folder: Path, tmp_path: Path) -> None:
    judge = load_qwen_vl(str(folder))
    adapted = add_adapter(judge)
    save_judge(tmp_path, judge.with_contract(**vars(CONTRACT)), model=adapted)
    assert not (tmp_path / "model.safetensors").exists()
    again = load_qwen_vl(str(tmp_path))
    assert again.contract == CONTRACT
    assert (odds(again) + odds(judge)).abs().max() < 1e-4
    by_peft = load_qwen_vl(str(folder))
    PeftModel.from_pretrained(by_peft.model, tmp_path)
    assert torch.equal(odds(by_peft), odds(judge))


def test_what_an_adapter_does_not_state_is_its_base_s(folder: Path, tmp_path: Path) -> None:
    base, adapter = Path(shutil.copytree(folder, tmp_path / "base")), tmp_path / "adapter"
    save_judge_contract(base, CONTRACT)
    add_adapter(load_qwen_vl(str(base))).save_pretrained(adapter)
    assert load_qwen_vl(str(adapter)).contract == CONTRACT
    save_judge_contract(adapter, JudgeContract())
    assert load_qwen_vl(str(adapter)).contract == JudgeContract()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "its adapter_config.json names no base_model_name_or_path; expected"),
        ("/nowhere/judge", r"\(an adapter on /nowhere/judge\): no folder lies there"),
        ("no/such-judge", r"\(an adapter on no/such-judge\): it is not in the local cache"),
        ("{narrow}", r"\(an adapter on .*narrow\): its weights are of other shapes than the base's: "),
        ("{editor}", r"\(an adapter on .*editor\): Unrecognized model"),
    ],
)
def test_an_adapter_without_its_base_says_so(folder: Path, tmp_path: Path, name: str | None, message: str) -> None:
    adapter, narrow, editor = (tmp_path / part for part in ("adapter", "narrow", "editor"))
    add_adapter(load_qwen_vl(str(folder))).save_pretrained(adapter)
    if name == "{narrow}":
        tiny_qwen3_folder(narrow)
    if name == "{editor}":
        tiny_flux_fill_folder(editor)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = name and name.format(narrow=narrow, editor=editor)
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"^no judge at '.*adapter'.*{message}"):
        load_qwen_vl(str(adapter))


# 8 and 4 bits.


def _relative(answers: Sequence[Tensor], exact: Sequence[Tensor]) -> list[float]:
    return [float((one - two).norm() / two.norm()) for one, two in zip(answers, exact, strict=True)]


def _answers(judge: QwenVLJudge) -> tuple[Tensor, Tensor]:
    """The vocabulary's logits, around their mean, and the gradient of the log odds in the first images."""
    first, second = images()
    first.requires_grad_()
    logits = judge.logits(first, second, QUERIES).detach()
    asked = logits[~logits.isnan().any(-1)]
    (gradient,) = torch.autograd.grad(judge.log_odds(first, second, QUERIES).nansum(), first)
    return asked - asked.mean(-1, keepdim=True), gradient


@pytest.mark.parametrize(
    ("quantize", "kind", "largest"), [("int8", torch.int8, 0.05), ("nf4", torch.uint8, 0.3)], ids=["int8", "nf4"]
)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_fewer_bits_say_nearly_the_same(
    quantize: JudgeQuantize, kind: torch.dtype, largest: float, device: str
) -> None:
    """Only the language model's weights are small; the gradient to the images is nearly the same too."""
    small = load_qwen_vl("toy", quantize=quantize, device=device)
    for name, parameter in small.model.named_parameters():
        is_small = ".language_model.layers." in name and parameter.ndim > 1
        assert (parameter.dtype == kind) == is_small, name
    odds(small)  # a first call without a gradient must not take it from the next
    measured = [each.cpu() for each in _answers(small)]
    errors = _relative(measured, _answers(load_qwen_vl("toy")))
    assert all(0 < error < largest for error in errors), errors
    assert not any(parameter.requires_grad for parameter in small.model.parameters())


def test_an_adapter_on_four_bits_is_not_merged(folder: Path, tmp_path: Path) -> None:
    """Its own weights stay whole, beside the small ones: PEFT's own answer."""
    add_adapter(load_qwen_vl(str(folder))).save_pretrained(tmp_path)
    small, by_peft = load_qwen_vl(str(tmp_path), quantize="nf4"), load_qwen_vl(str(folder), quantize="nf4")
    base = odds(by_peft)
    PeftModel.from_pretrained(by_peft.model, tmp_path)
    assert torch.equal(odds(small), odds(by_peft))
    assert (odds(small) - base).abs().max() > 1e-2
    assert torch.uint8 in {parameter.dtype for parameter in small.model.parameters()}


def test_an_unknown_quantization_lists_the_known(folder: Path) -> None:
    with pytest.raises(ValueError, match="got quantize 'fp4', expected int8, nf4 or nothing"):
        load_qwen_vl(str(folder), quantize="fp4")  # type: ignore[arg-type]


def test_without_bitsandbytes_the_way_out_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onereward.models.load_judge.find_spec", lambda _: None)
    with pytest.raises(OSError, match=r"'bitsandbytes': pip install 'onereward\[quantize\]'"):
        load_qwen_vl(str(folder), quantize="nf4")


# What is no judge.


@pytest.mark.parametrize("attention", ["flash_attention_2", "flex_attention", "none"])
def test_attention_that_takes_no_packed_mask_is_refused(folder: Path, attention: str) -> None:
    with pytest.raises(ValueError, match=f"got attention '{attention}', expected sdpa, eager, sdpa_float32"):
        load_qwen_vl(str(folder), attention=attention)


@pytest.mark.parametrize(("name", "reason"), [("./nowhere", "no folder"), ("no/such-judge", "not in the local cache")])
def test_a_name_without_a_judge_says_what_is_expected(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"^no judge at '{name}': .*{reason}.*expected 'toy', a folder that holds"):
        load_qwen_vl(name)


def test_other_models_are_named(tmp_path: Path) -> None:
    clip = str(files("onereward") / "weights" / "toy-clip")
    with pytest.raises(ValueError, match=r"^no judge at .*toy-clip'.* it is a clip, not one of qwen2_5_vl, qwen3_vl"):
        load_qwen_vl(clip)
    for editor in (tiny_flux_fill_folder(tmp_path), tmp_path / "transformer"):
        with pytest.raises(ValueError, match=r"^no judge at .*Unrecognized model .*expected 'toy', a folder"):
            load_qwen_vl(str(editor))


def _without_its_embedding(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.embed_tokens.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _with_a_narrow_embedding(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = torch.zeros(3, 64)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _with_another_tokenizer(folder: Path) -> None:
    for file in (files("onereward") / "weights" / "toy-editor" / "tokenizer").iterdir():
        shutil.copy(str(file), folder)


SPOILT = {
    "no-config": (lambda folder: (folder / "config.json").unlink(), "Unrecognized model"),
    "cut-config": (lambda folder: (folder / "config.json").write_text("{"), "not a valid JSON"),
    "no-weights": (lambda folder: (folder / "model.safetensors").unlink(), "no file named model.safetensors"),
    "cut-weights": (lambda folder: (folder / "model.safetensors").write_bytes(b"no tensors"), "header"),
    "missing-weight": (_without_its_embedding, "lack lm_head.weight in the shape .*config.json states, 2 in all"),
    "narrow-weight": (_with_a_narrow_embedding, "lack .*embed_tokens.weight in the shape"),
    "no-pixels": (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
    "no-tokenizer": (
        lambda folder: [(folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
        "tokenizer has [0-9]+ words and none for an image: its folder has no tokenizer.json",
    ),
    "no-vocabulary": (lambda folder: (folder / "tokenizer.json").unlink(), "8 words and no letters"),
    "cut-tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{"), "Expecting property name"),
    "another-tokenizer": (_with_another_tokenizer, "chat template shows 0 images"),
    "no-template": (
        lambda folder: (folder / "chat_template.jinja").write_text("{{ messages[0].content[-1].text }}"),
        "chat template shows 0 images where two were given",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_folder_is_one_line(folder: Path, tmp_path: Path, case: str) -> None:
    spoil, message = SPOILT[case]
    spoilt = Path(shutil.copytree(folder, tmp_path / "judge"))
    spoil(spoilt)
    with pytest.raises(ValueError, match=message) as refused:
        load_qwen_vl(str(spoilt))
    assert re.fullmatch(
        r"(no judge at .*expected 'toy', a folder|the judge's (tokenizer|chat template)) .*", str(refused.value)
    )


def test_a_folder_without_a_template_is_asked_as_qwen_is(folder: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(folder, tmp_path / "judge"))
    (bare / "chat_template.jinja").unlink()
    judge = load_qwen_vl(str(bare))
    assert judge.tokenizer.chat_template is None
    assert torch.equal(odds(judge), odds(load_qwen_vl(str(folder))))
