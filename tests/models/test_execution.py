"""Saving memory and time: what each way changes, what it leaves alone, and what is refused."""

import importlib.util
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from diffusers.quantizers.bitsandbytes import bnb_quantizer
from torch import Tensor, nn

from onereward.flow.sample import denoise
from onereward.models import placement
from onereward.models.execution import Execution
from onereward.models.fingerprint import fingerprint_of
from onereward.models.flux_fill import FluxFill
from onereward.models.load import Loader, load_flux_fill, save_editor
from onereward.models.names import resolve
from tests.tiny import tiny_flux_fill_folder

PROMPTS = ["a red star", "remove"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("editor"))


@pytest.fixture(scope="module")
def exact(folder: Path) -> FluxFill:
    return load_flux_fill(str(folder))


def with_execution(folder: Path, **settings: object) -> FluxFill:
    return load_flux_fill(str(folder), execution=Execution(**settings))


def scene(side: int = 32) -> tuple[Tensor, Tensor]:
    """Two noise images of that side, and a hole in each."""
    image = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(side)) * 2 - 1
    mask = torch.zeros(2, 1, side, side)
    mask[:, :, 6:20, 4:22] = 1
    return image, mask


def edited(editor: FluxFill, *, seeds: tuple[int, int] = (0, 1), steps: int = 4, side: int = 32) -> Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    settings = {"true_cfg": [4.0, 1.0], "negative_prompt": "nsfw", "guidance": 3.5}
    return editor.repaint(*scene(side), PROMPTS, generators, steps=steps, **settings)


def relative_error(image: Tensor, expected: Tensor) -> float:
    return float((image - expected).square().mean().sqrt() / expected.std())


def bytes_of(module: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantize": "int4"}, "got quantize 'int4', expected fp8, int8, nf4 or nothing"),
        ({"offload": "disk"}, "got offload 'disk', expected model, layers or nothing"),
        ({"cache": 0.0}, "got cache 0.0, expected a share between 0 and 1"),
        ({"cache": 1.0}, "got cache 1.0, expected a share between 0 and 1"),
        ({"cache": 0.1, "offload": "layers"}, "offload layers does not go with cache: use offload model"),
        ({"quantize": "nf4", "offload": "layers"}, "offload layers does not go with quantize nf4: use offload model"),
    ],
)
def test_what_does_not_exist_or_go_together_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Execution(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantize": "nf4"}, "quantize nf4 needs a CUDA GPU, got cpu: use fp8 there, or none"),
        ({"quantize": "int8"}, "quantize int8 needs a CUDA GPU, got cpu"),
        ({"offload": "model"}, "offload model moves parts between a GPU and memory, got the device cpu"),
    ],
)
def test_what_a_cpu_cannot_do_is_refused(folder: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_execution(folder, **settings)


@pytest.mark.parametrize(("library", "quantize", "is_gguf"), [("bitsandbytes", "nf4", False), ("gguf", None, True)])
def test_a_missing_library_names_its_pip_command(
    monkeypatch: pytest.MonkeyPatch, library: str, quantize: str | None, is_gguf: bool
) -> None:
    found = importlib.util.find_spec
    check = partial(placement.check_execution, Execution(quantize=quantize), torch.device("cuda"), is_gguf=is_gguf)
    check()
    monkeypatch.setattr(placement, "find_spec", lambda name: None if name == library else found(name))
    with pytest.raises(OSError, match=rf"needs the library '{library}': pip install 'onereward\[quantize\]'"):
        check()


def test_fp8_halves_the_weights_and_keeps_the_image(folder: Path, exact: FluxFill) -> None:
    small = with_execution(folder, quantize="fp8")
    kinds = {name: parameter.dtype for name, parameter in small.transformer.named_parameters()}
    assert kinds["transformer_blocks.0.attn.to_q.weight"] == torch.float8_e4m3fn
    assert kinds["proj_out.weight"] == torch.float32  # what diffusers keeps as it is
    t5 = {name: parameter.dtype for name, parameter in small.text_encoder_2.named_parameters()}
    assert t5["encoder.block.0.layer.0.SelfAttention.q.weight"] == torch.float8_e4m3fn
    assert t5["shared.weight"] == t5["encoder.block.0.layer.1.DenseReluDense.wo.weight"] == torch.float32
    assert bytes_of(small.transformer) < 0.75 * bytes_of(exact.transformer)
    assert set(small.transformer.state_dict()) == set(exact.transformer.state_dict())
    assert 0 < relative_error(edited(small), edited(exact)) < 0.1
    assert fingerprint_of(small) != fingerprint_of(exact)


def test_fp8_goes_with_bfloat16_and_with_layers_off_the_device(folder: Path, exact: FluxFill) -> None:
    execution = Execution(quantize="fp8", offload="layers")
    small = load_flux_fill(str(folder), dtype=torch.bfloat16, execution=execution)
    assert small.transformer.transformer_blocks[0].attn.to_q.weight.dtype == torch.float8_e4m3fn
    condition, noise = small.encode(*scene(), PROMPTS), exact.noise(exact.encode(*scene(), PROMPTS), [(0,), (1,)])
    assert condition.text.tokens_BTD.dtype == torch.bfloat16
    images = [
        one.decode(denoise(lambda x, t, one=one, c=c: one.velocity(x, t, c), noise, one.times(c, 4)), c)
        for one, c in ((small, condition), (exact, exact.encode(*scene(), PROMPTS)))
    ]
    assert 0 < relative_error(*images) < 0.1


def test_quantized_weights_are_not_saved_as_an_editor(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the editor's weights are quantized: load it without, and save that"):
        save_editor(tmp_path / "saved", with_execution(folder, quantize="fp8"))
    assert list(tmp_path.iterdir()) == []


def test_bitsandbytes_quantizes_transformer_and_t5(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the CPU, which bitsandbytes can and diffusers refuses: its check is lifted here, all else is as on a GPU."""
    for stock in (bnb_quantizer.BnB4BitDiffusersQuantizer, bnb_quantizer.BnB8BitDiffusersQuantizer):
        monkeypatch.setattr(stock, "validate_environment", lambda self, **_: None)
        monkeypatch.setattr(stock, "update_device_map", lambda self, device_map: device_map or {"": "cpu"})
    monkeypatch.setattr("onereward.models.load.check_execution", lambda *_, **__: None)
    expected = edited(load_flux_fill("toy"))
    for quantize, kind in {"nf4": torch.uint8, "int8": torch.int8}.items():
        small = load_flux_fill("toy", execution=Execution(quantize=quantize))
        for part in (small.transformer, small.text_encoder_2):
            assert kind in {parameter.dtype for parameter in part.parameters()}
        assert 0 < relative_error(edited(small), expected) < 0.3
    lone = load_flux_fill(f"{resolve('toy', 'editor')}:transformer", base="toy", execution=Execution(quantize="int8"))
    assert torch.equal(edited(lone), edited(small))


@pytest.mark.gpu
@pytest.mark.parametrize(
    "settings",
    [
        {"quantize": "fp8"},
        {"quantize": "nf4"},
        {"quantize": "int8"},
        {"offload": "model"},
        {"offload": "layers"},
        {"quantize": "fp8", "offload": "layers"},
        {"quantize": "nf4", "offload": "model"},
        {"offload": "model", "cache": 0.1},
        {"compile": True, "cache": 0.1},
    ],
)
def test_it_runs_on_a_gpu(folder: Path, exact: FluxFill, settings: dict[str, object]) -> None:
    editor = load_flux_fill(str(folder), device="cuda", execution=Execution(**settings))
    assert editor.device.type == "cuda"
    assert relative_error(edited(editor).cpu(), edited(exact)) < 0.3
    editor.keep_texts([*PROMPTS, "nsfw"])
    editor.free_text_encoders()
    assert relative_error(edited(editor).cpu(), edited(exact)) < 0.3


def test_layers_off_the_device_change_no_bit(folder: Path, exact: FluxFill) -> None:
    editor = with_execution(folder, offload="layers")
    assert editor.device == torch.device("cpu") == edited(editor).device
    hooked = [module for module in editor.transformer.modules() if hasattr(module, "_diffusers_hook")]
    assert len(hooked) > 10
    assert torch.equal(edited(editor), edited(exact))


def test_text_encoders_are_freed_with_their_layers_off_the_device(folder: Path, exact: FluxFill) -> None:
    editor = with_execution(folder, offload="layers")
    editor.keep_texts([*PROMPTS, "nsfw"])
    editor.free_text_encoders()
    assert torch.allclose(edited(editor), edited(exact), atol=1e-5)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[[FluxFill], list[str]]:
    """Counts the runs of each kind of block of an editor."""

    def count(editor: FluxFill) -> list[str]:
        seen: list[str] = []
        for kind in ("transformer_blocks", "single_transformer_blocks"):
            for block in getattr(editor.transformer, kind):
                block.attn.register_forward_hook(lambda *_, kind=kind: seen.append(kind))
        return seen

    return count


def test_the_cache_skips_later_blocks_and_leaks_nothing(
    folder: Path, exact: FluxFill, calls: Callable[[FluxFill], list[str]]
) -> None:
    editor = with_execution(folder, cache=0.5)
    seen = calls(editor)
    first = edited(editor, steps=12)
    assert seen.count("transformer_blocks") == 12  # the first block says whether the others are needed
    done = seen.count("single_transformer_blocks")
    assert 1 <= done < 12
    expected = edited(exact, steps=12)
    assert 0 < relative_error(first, expected) < 0.1
    edited(editor, seeds=(7, 8), steps=5)
    seen.clear()
    assert torch.equal(edited(editor, steps=12), first)
    assert seen.count("single_transformer_blocks") == done


def test_a_tiny_threshold_skips_nothing_and_changes_nothing(folder: Path, exact: FluxFill) -> None:
    assert torch.equal(edited(with_execution(folder, cache=1e-9)), edited(exact))


def test_graded_steps_see_no_cache(folder: Path, exact: FluxFill, calls: Callable[[FluxFill], list[str]]) -> None:
    editor = with_execution(folder, cache=0.5)
    edited(editor)
    condition, noise = editor.encode(*scene(), PROMPTS), exact.noise(exact.encode(*scene(), PROMPTS), [(0,), (1,)])
    seen = calls(editor)
    for _ in range(2):
        velocity = editor.velocity(noise, torch.tensor([0.5, 0.5]), condition)
    assert seen == ["transformer_blocks", "single_transformer_blocks"] * 2
    assert torch.equal(velocity, exact.velocity(noise, torch.tensor([0.5, 0.5]), condition))
    velocity.square().mean().backward()
    assert all(parameter.grad is not None for parameter in editor.transformer.parameters())


def test_the_cache_is_part_of_what_an_editor_answers(folder: Path, exact: FluxFill) -> None:
    assert fingerprint_of(with_execution(folder, cache=0.5)) != fingerprint_of(exact)


def test_an_error_in_a_cached_edit_leaves_the_editor_whole(folder: Path, exact: FluxFill) -> None:
    editor = with_execution(folder, cache=0.5)
    with pytest.raises(KeyError):
        editor.repaint(*scene(), PROMPTS, [torch.Generator(), torch.Generator()], steps=2, on_step=lambda: {}["stop"])
    assert relative_error(edited(editor), edited(exact)) < 0.1


def test_compiled_blocks_keep_their_names_and_give_the_same_image(
    folder: Path, exact: FluxFill, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    graphs: list[object] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    stock = FluxTransformer2DModel.compile_repeated_blocks
    monkeypatch.setattr(FluxTransformer2DModel, "compile_repeated_blocks", lambda self: stock(self, backend=backend))
    editor = with_execution(folder, compile=True, cache=0.5)
    assert graphs == [] and set(editor.transformer.state_dict()) == set(exact.transformer.state_dict())
    images = [edited(editor) for _ in range(4)]
    assert 2 <= len(graphs) <= 8  # one kind of block, one graph, give or take the cache's hooks
    count = len(graphs)
    edited(editor)
    assert len(graphs) == count
    assert torch.equal(images[0], images[3])
    assert relative_error(images[0], edited(exact)) < 0.1
    save_editor(tmp_path / "saved", editor)
    assert torch.equal(edited(load_flux_fill(str(tmp_path / "saved"))), edited(exact))


@pytest.mark.soak
def test_inductor_s_blocks_give_the_same_image(folder: Path, exact: FluxFill) -> None:
    assert relative_error(edited(with_execution(folder, compile=True)), edited(exact)) < 1e-4


def test_the_vae_decodes_one_image_at_a_time(folder: Path, exact: FluxFill, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    decode = AutoencoderKL._decode
    monkeypatch.setattr(AutoencoderKL, "_decode", lambda self, z, **o: sizes.append(len(z)) or decode(self, z, **o))
    sliced = edited(with_execution(folder, vae_slicing=True))
    assert sizes == [1, 1]
    assert float((sliced - edited(exact)).abs().max()) <= 1e-5


def test_the_vae_decodes_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    tiles: list[int] = []
    decode = AutoencoderKL.tiled_decode
    monkeypatch.setattr(AutoencoderKL, "tiled_decode", lambda self, z, **o: tiles.append(1) or decode(self, z, **o))
    tiled, whole = (edited(load_flux_fill("toy", execution=Execution(vae_tiling=on)), side=96) for on in (True, False))
    assert tiles == [1]
    assert 0 < relative_error(tiled, whole) < 0.2


def test_a_loader_travels_and_equal_ones_are_one() -> None:
    loader = Loader(device=torch.device("cpu"), dtype=torch.float32, execution=Execution(cache=0.1))
    again = pickle.loads(pickle.dumps(loader))
    assert again == loader and hash(again) == hash(loader)
    assert loader("toy").cache == 0.1
