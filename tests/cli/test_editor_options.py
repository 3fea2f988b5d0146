"""The options that say which editor and how it runs, as three verbs take them."""

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from onereward.cli.editor_options import loader_of, use_local_cache_only
from onereward.cli.main import main, verb_parser
from onereward.models.device import default_device, default_dtype, device_named
from onereward.models.execution import Execution
from onereward.models.load import Loader
from onereward.store.shards import read_manifest, read_records
from onereward.terms import Candidate
from tests.tiny import tiny_flux_fill_folder

VERBS = {
    "generate": ["--input", "in", "--output", "out", "--editor", "toy"],
    "evaluate": ["editor", "--input", "in", "--output", "out", "--editor", "base=toy"],
    "train-rl": ["toy"],
}


def parsed(verb: str, words: list[str]) -> Namespace:
    return verb_parser(verb).parse_args([*VERBS[verb], *words])


@pytest.mark.parametrize("verb", ["generate", "evaluate"])
def test_an_editor_that_is_asked_runs_as_the_options_say(verb: str) -> None:
    device = device_named("auto")
    assert loader_of(parsed(verb, [])) == Loader(device=device, dtype=default_dtype(device))
    words = [
        "--device",
        "cpu",
        "--dtype",
        "bf16",
        "--quantize",
        "fp8",
        "--compile",
        "--vae-tiling",
        "--vae-slicing",
        "--cache",
        "0.1",
    ]
    asked = Execution(quantize="fp8", compile=True, vae_tiling=True, vae_slicing=True, cache=0.1)
    assert loader_of(parsed(verb, words)) == Loader(device=torch.device("cpu"), dtype=torch.bfloat16, execution=asked)
    offloaded = loader_of(parsed(verb, ["--device", "cpu", "--offload", "layers"]))
    assert offloaded.execution == Execution(offload="layers")


def test_an_editor_that_is_trained_stays_in_its_precision() -> None:
    assert loader_of(parsed("train-rl", [])) == Loader(device=default_device(), dtype=torch.float32)
    words = ["--device", "cpu", "--base", "other", "--lora", "lora"]
    assert loader_of(parsed("train-rl", words)) == Loader(
        device=torch.device("cpu"), dtype=torch.float32, base="other", lora="lora"
    )
    with pytest.raises(ValueError, match="unrecognized arguments: --quantize fp8"):
        parsed("train-rl", ["--quantize", "fp8"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "tpu"], "got device tpu, expected one of this machine: auto, cpu"),
        (["--dtype", "int3"], "got dtype int3, expected one of auto, bf16, fp16, fp32, fp64"),
        (["--cache", "2"], "got cache 2.0, expected a share between 0 and 1"),
        (["--device", "cpu", "--offload", "layers", "--cache", "0.1"], "offload layers does not go with cache"),
        (["--quantize", "int4"], "invalid choice: 'int4'"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", *VERBS["generate"], *words]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert message in line


def test_generate_and_evaluate_run_with_small_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    editor, pool = str(tiny_flux_fill_folder(tmp_path / "editor")), str(tmp_path / "pool")
    small = ["--device", "cpu", "--quantize", "fp8", "--offload", "layers", "--steps", "1"]
    assert main(["data", "toy", "--output", pool, "--count", "2"]) == 0
    words = ["--input", pool, "--editor", editor, "--candidates", "2", "--true-cfg", "1", *small]
    assert main(["generate", *words, "--output", str(tmp_path / "small")]) == 0
    assert main(["generate", *words[:-6], "--steps", "1", "--output", str(tmp_path / "exact")]) == 0
    images = [[one.image for one in read_records(tmp_path / kind, Candidate)] for kind in ("small", "exact")]
    assert len(images[0]) == 4 and all(a != b for a, b in zip(*images, strict=True))
    editors = [read_manifest(tmp_path / kind).plan.inputs["editor"] for kind in ("small", "exact")]
    assert editors[0] != editors[1]
    words = ["editor", "--input", pool, "--editor", f"base={editor}", "--output", str(tmp_path / "scores"), *small]
    assert main(["evaluate", *words]) == 0
    assert read_manifest(tmp_path / "scores" / "edits").plan.inputs["editor base"] == editors[0]


def test_offline_holds_for_this_process_and_those_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    use_local_cache_only(Namespace(offline=False))
    assert os.environ["HF_HUB_OFFLINE"] == "0" and not constants.is_offline_mode()
    use_local_cache_only(Namespace(offline=True))
    assert os.environ["HF_HUB_OFFLINE"] == "1" and constants.is_offline_mode()


@pytest.mark.parametrize("verb", VERBS)
def test_help_loads_no_torch(verb: str) -> None:
    words = [verb, "editor", "--help"] if verb == "evaluate" else [verb, "--help"]
    code = f"import sys\nfrom onereward.cli.main import main\ntry:\n    main({words})\nfinally:\n" + (
        "    print('torch' in sys.modules, 'huggingface_hub' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False False" and "--device" in done.stdout
