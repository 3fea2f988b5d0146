"""Editors from and to ordinary diffusers folders: `toy`, a folder, a Hub repository, or a transformer on a base."""

import shutil
from pathlib import Path

import torch
from diffusers import FluxFillPipeline, FluxTransformer2DModel
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError
from torch import nn

from onereward.models.contract import CONTRACT_FILE, RELEASED, Contract, read_contract, save_contract
from onereward.models.flux_fill import FluxFill
from onereward.models.names import resolve
from onereward.models.quiet import quietly

FLUX_FILL = "black-forest-labs/FLUX.1-Fill-dev"


def load_flux_fill(
    name_or_path: str,
    *,
    base: str | None = None,
    lora: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> FluxFill:
    """The editor behind `toy`, a pipeline folder, a Hub repository id, or a transformer's folder or `repo:subfolder`.

    A transformer alone takes its other parts from the pipeline `base` (default: FLUX.1-Fill-dev). `lora` names a file,
    folder or repository in diffusers' format and is merged into the weights. The contract is the editor's own if it
    has one, else the published one, else its base's. Raises ValueError if no editor lies there.
    """
    source, subfolder = _split(resolve(name_or_path, "editor"))
    lone = subfolder is not None or base is not None or _is_lone_transformer(source)
    pipeline_source = (base or FLUX_FILL) if lone else source
    pipeline_source = resolve(pipeline_source, "editor")
    try:
        with quietly():
            parts: dict[str, nn.Module] = {}
            if lone:
                parts["transformer"] = FluxTransformer2DModel.from_pretrained(source, subfolder=subfolder, dtype=dtype)
            pipeline = FluxFillPipeline.from_pretrained(pipeline_source, dtype=dtype, **parts)
            if lora is not None:
                pipeline.load_lora_weights(lora)
                pipeline.fuse_lora()
                pipeline.unload_lora_weights()
    except (OSError, ValueError) as error:
        raise ValueError(_cannot_load(name_or_path, pipeline_source, lora, error)) from error
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        _copy_to_fresh_memory(part)
    pipeline.to(device)
    contract = _contract_of(source, subfolder) or _contract_of(pipeline_source, None) or Contract()
    return FluxFill(**pipeline.components, contract=contract)


def save_editor(
    folder: Path,
    editor: FluxFill,
    *,
    transformer: nn.Module | None = None,
    contract: Contract | None = None,
) -> None:
    """Write a whole pipeline folder with the contract beside it, for `load_flux_fill` and `FluxFillPipeline` alike.

    `transformer` and `contract` replace the editor's own. The folder appears under its name only when it is complete;
    raises FileExistsError if something is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists already: name another folder or remove it")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pipeline = FluxFillPipeline(
        transformer=editor.transformer if transformer is None else transformer,
        vae=editor.vae,
        text_encoder=editor.text_encoder,
        tokenizer=editor.tokenizer,
        text_encoder_2=editor.text_encoder_2,
        tokenizer_2=editor.tokenizer_2,
        scheduler=editor.scheduler,
    )
    try:
        with quietly():
            pipeline.save_pretrained(partial)
        save_contract(partial, editor.contract if contract is None else contract)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _split(name: str) -> tuple[str, str | None]:
    """`repo:subfolder` in two; a path that exists is never split."""
    if Path(name).exists() or ":" not in name:
        return name, None
    source, _, subfolder = name.partition(":")
    return source, subfolder


def _is_lone_transformer(source: str) -> bool:
    return (Path(source) / "config.json").exists() and not (Path(source) / "model_index.json").exists()


def _contract_of(source: str, subfolder: str | None) -> Contract | None:
    """The contract file beside the weights, in a folder or on the Hub, or the published contract of the repository."""
    if Path(source).is_dir():
        file = Path(source, subfolder or "", CONTRACT_FILE)
        return read_contract(file) if file.exists() else None
    try:
        return read_contract(Path(hf_hub_download(source, CONTRACT_FILE, subfolder=subfolder)))
    except EntryNotFoundError:
        return RELEASED.get(source)


def _copy_to_fresh_memory(module: nn.Module) -> None:
    """Leave the file's memory map: misaligned weights change the last bits of a product."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = tensor.data.clone()


def _cannot_load(name: str, pipeline_source: str, lora: str | None, error: Exception) -> str:
    tried = [
        name,
        *([f"base {pipeline_source}"] if pipeline_source != name else []),
        *([f"LoRA {lora}"] if lora else []),
    ]
    return (
        f"cannot load an editor from {', '.join(tried)}: {str(error).splitlines()[0]}; expected 'toy', a folder that "
        f"FluxFillPipeline loads, a Hub repository id such as {FLUX_FILL}, or REPO:SUBFOLDER of a transformer"
    )
