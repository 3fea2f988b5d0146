"""`onereward export`: the command line of each form, and what it refuses."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from onereward.cli.export import add_arguments
from onereward.cli.main import main
from onereward.export.forms import Form
from onereward.export.stage import DTYPES
from tests.tiny import tiny_flux_fill_folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_flux_fill_folder(tmp_path_factory.mktemp("other"), seed=1)


def test_choices_are_those_of_the_stage() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    choices = {action.dest: action.choices for action in parser._actions}
    assert list(choices["form"] or ()) == list(Form)
    assert list(choices["dtype"] or ()) == list(DTYPES)


def test_a_lora_is_taken_renamed_and_merged(
    base: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken, renamed, merged = (str(tmp_path / name) for name in ("taken", "renamed", "merged"))
    words = ["export", "--editor", str(other), "--as", "lora", "--start", str(base), "--rank", "3", "--output", taken]
    assert main(words) == 0
    assert "% of the squared change at rank 3; the card is in" in capsys.readouterr().out
    words = ["export", "--editor", str(base), "--lora", taken, "--as", "comfyui-lora", "--output", renamed, "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out) == {"output": renamed, "weights": f"{renamed}/renamed.safetensors"}
    words = ["export", "--editor", str(base), "--lora", renamed, "--as", "folder", "--dtype", "bfloat16"]
    assert main([*words, "--output", merged]) == 0
    weights = load_file(f"{merged}/transformer/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--as", "lora"], "give --start"),
        (["--as", "lora", "--start", "{base}", "--rank", "0"], "got --rank 0"),
        (["--as", "lora", "--start", "{base}"], "same weights"),
        (["--as", "comfyui-lora", "--lora", "./nowhere"], "nowhere"),
        (["--as", "folder", "--report", "{base}/model_index.json"], "no report.json"),
        (["--as", "zip"], "comfyui-lora"),
        (["--as", "folder", "--output", "{base}"], "exists already"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2_and_writes_nothing(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    given = [word.format(base=base) for word in words]
    output = tmp_path / "out"
    assert main(["export", "--editor", str(base), "--output", str(output), *given]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert list(tmp_path.iterdir()) == []
