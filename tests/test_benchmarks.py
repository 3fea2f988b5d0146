"""The benchmarks in their smallest form: they run, compare like with like, and say what they did not measure."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import batch_edit, flux_size


@pytest.mark.soak
def test_batch_mode_makes_the_images_of_a_loop_over_the_stock_pipeline(tmp_path: Path) -> None:
    found = batch_edit.measure(tmp_path, images=4, rounds=1, batch_size=2)
    assert found["largest difference to stock, grey levels"] <= 1
    assert found["share of values that differ from stock"] <= 0.001
    assert found["two processes make the bytes of one"] == 1
    names = ("one process", "two processes", "one process of one thread each")
    assert all(found[f"ratio, {name}"] > 0 for name in names)
    outputs = {name: sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("stock-1-thread-1",)}
    assert outputs == {"stock-1-thread-1": [f"{index}.png" for index in range(4)]}
    assert len(list((tmp_path / "batch-mode-2-processes-1").glob("*.json"))) == 4


def test_images_that_would_fill_no_batches_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got 12 images in batches of 4, expected a multiple of 8"):
        batch_edit.measure(tmp_path, images=12, rounds=1, batch_size=4)


def test_the_parts_have_the_weights_of_the_released_ones() -> None:
    pipeline = flux_size.random_pipeline(flux_size.FLUX, torch.device("meta"), torch.bfloat16)
    weights = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module)
    }
    assert weights == {
        "transformer": 11_902_391_360,
        "text_encoder": 123_060_480,
        "text_encoder_2": 4_762_310_656,
        "vae": 83_819_683,
    }
    assert {parameter.dtype for parameter in pipeline.transformer.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it says where there is no GPU")
def test_without_a_gpu_it_says_so_loudly_and_smokes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["flux_size", "--no-compile", "--rounds", "1", "--batch-sizes", "1", "3"])
    flux_size.main()
    said = capsys.readouterr()
    assert said.err.startswith("NO GPU") and "SAY NOTHING ABOUT FLUX" in said.err
    found = json.loads(said.out)
    assert (found["device"], found["is_flux_size"], found["steps"]) == ("cpu", False, 2)
    assert list(found["contestants"]) == ["stock, batch 1", "ours, batch 1", "ours, batch 3"]
    assert all(one["seconds"] > 0 and one["peak_gib"] is None for one in found["contestants"].values())
    assert found["share_of_values_off_stock_by_more_than_one_level"] == 0
