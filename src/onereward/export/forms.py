"""The forms of an export, each a folder that other software loads as it is, with the contract and a card in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from onereward.models.contract import CONTRACT_FILE, Contract, json_of_contract, save_contract
from onereward.models.flux_fill import FluxFill
from onereward.models.flux_names import to_original
from onereward.models.load import save_editor
from onereward.models.lora import Lora, comfyui_tensors, diffusers_tensors
from onereward.store.files import fresh_part, publish

CARD_FILE = "README.md"
LORA_FILE = "pytorch_lora_weights.safetensors"
"""The name by which diffusers and the Hub know a LoRA."""


class Form(StrEnum):
    """What an export is: a pipeline folder, a LoRA by diffusers' or ComfyUI's names, or the transformer as one file."""

    FOLDER = "folder"
    LORA = "lora"
    COMFYUI_LORA = "comfyui-lora"
    SINGLE_FILE = "single-file"

    @property
    def is_lora(self) -> bool:
        return self in (Form.LORA, Form.COMFYUI_LORA)


def weights_of(output: Path, form: Form) -> Path:
    """What there is to load in a finished export: a file, or the folder itself."""
    if form is Form.FOLDER:
        return output
    return output / (LORA_FILE if form is Form.LORA else f"{output.name}.safetensors")


def write_folder(output: Path, editor: FluxFill, card: str) -> None:
    """Write the whole pipeline as a diffusers folder, with contract and card.

    Like every form it appears under its name only when it is whole. Raises FileExistsError if something is there.
    """
    with _whole(output) as part:
        save_editor(part, editor)
        (part / CARD_FILE).write_text(card, encoding="utf-8")


def write_single_file(output: Path, editor: FluxFill, card: str) -> None:
    """Write the transformer as one file under the original names, with diffusers' config, contract and card."""
    with _whole(output) as part:
        transformer: Any = editor.transformer
        state = {key: tensor.contiguous() for key, tensor in to_original(transformer.state_dict()).items()}
        _save(state, part / weights_of(output, Form.SINGLE_FILE).name, editor.contract, card)
        transformer.save_config(part)


def write_lora(output: Path, form: Form, lora: Lora, contract: Contract, card: str) -> None:
    """Write a LoRA under the names of diffusers (`Form.LORA`) or ComfyUI, with the contract and card of its editor."""
    if form is Form.LORA:
        tensors = {f"transformer.{key}": tensor for key, tensor in diffusers_tensors(lora).items()}
    else:
        tensors = comfyui_tensors(lora)
    with _whole(output) as part:
        _save(tensors, part / weights_of(output, form).name, contract, card)


def require_free(output: Path) -> None:
    """Raises FileExistsError if something is there: call it before long work."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(f"{output} exists already: name another --output or remove it")


@contextmanager
def _whole(output: Path) -> Iterator[Path]:
    """A folder to write in, which takes the name `output` if nothing goes wrong."""
    require_free(output)
    part = fresh_part(output)
    try:
        yield part
        publish(part, output)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _save(tensors: dict[str, Tensor], file: Path, contract: Contract, card: str) -> None:
    """The file, and in its folder the card and the contract, which the file also holds itself."""
    save_file(tensors, file, metadata={"format": "pt", CONTRACT_FILE: json_of_contract(contract)})
    save_contract(file.parent, contract)
    (file.parent / CARD_FILE).write_text(card, encoding="utf-8")
