"""Editors from and to ordinary diffusers folders: `toy`, a folder, a Hub repository, or a transformer on a base."""

import copy
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxTransformer2DModel,
    GGUFQuantizationConfig,
    PipelineQuantizationConfig,
)
from diffusers.models.model_loading_utils import load_gguf_checkpoint
from huggingface_hub import hf_hub_download, is_offline_mode
from huggingface_hub.errors import EntryNotFoundError, OfflineModeIsEnabled
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from onereward.models.contract import CONTRACT_FILE, RELEASED, Contract, read_contract, save_contract
from onereward.models.copies import ADAPTER
from onereward.models.execution import Execution
from onereward.models.flux_fill import FluxFill, shift_of, with_shift
from onereward.models.flux_names import from_original
from onereward.models.hub import access_refused, not_found
from onereward.models.lora import diffusers_tensors, merge_lora, read_lora
from onereward.models.names import resolve
from onereward.models.placement import bits_and_bytes, check_execution, place
from onereward.models.quiet import quietly

FLUX_FILL = "black-forest-labs/FLUX.1-Fill-dev"
ADAPTERS = "adapter_config.json"

_GGUF = ".gguf"
_PREFIX = "model.diffusion_model."  # of the transformer in a ComfyUI checkpoint that holds other parts too
_SINGLE_FILES = (".safetensors", ".sft", _GGUF)
_FULL = {torch.float64, torch.float32, torch.bfloat16, torch.float16}
_EXACTLY = Execution()


@dataclass(frozen=True, kw_only=True)
class Loader:
    """`load_flux_fill` with all but the name settled: hashable, and picklable for worker processes."""

    device: torch.device
    dtype: torch.dtype
    base: str | None = None
    lora: str | None = None
    execution: Execution = _EXACTLY

    def __call__(self, name_or_path: str) -> FluxFill:
        return load_flux_fill(name_or_path, **vars(self))


def load_flux_fill(
    name_or_path: str,
    *,
    base: str | None = None,
    lora: str | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    execution: Execution = _EXACTLY,
) -> FluxFill:
    """The editor behind `toy`, a pipeline folder, a Hub repository id, or a transformer's folder or `repo:subfolder`.

    A transformer can also be one file under FLUX's original names (`.safetensors`, `.sft`, `.gguf`; on the Hub
    `repo:file`). Alone it takes its other parts from the pipeline `base` (default: FLUX.1-Fill-dev). `lora` names a
    file, folder or repository (see `read_lora`); it is merged into the weights, or kept beside quantized ones. The
    contract is the LoRA's or the editor's own if it has one, else the published one, else its base's. Raises ValueError
    if no editor lies there or if the device cannot do what `execution` asks.
    """
    device = torch.device(device)
    if lora is None and (own_base := _base_of_adapters(name_or_path)) is not None:
        name_or_path, lora = own_base, name_or_path
    source = _Source.of(name_or_path, base)
    check_execution(execution, device, is_gguf=source.is_file and source.what.endswith(_GGUF))
    try:
        with quietly():
            source.check_there()
            pipeline = _pipeline(source, execution, dtype)
            if lora is not None:
                _add_lora(pipeline, lora)
        contract = _contract_of(source, lora)
        for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
            _copy_to_fresh_memory(part)
        place(pipeline, execution, device, dtype)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(_cannot_load(name_or_path, source, lora, error)) from error
    return FluxFill(
        **pipeline.components,
        contract=contract,
        dtype=dtype,
        device=device if execution.offload else None,
        cache=execution.cache,
    )


def load_contract(name_or_path: str, *, base: str | None = None, lora: str | None = None) -> Contract:
    """The contract of the editor that `load_flux_fill` would load, its shift filled in, without loading any weights.

    Raises ValueError as `load_flux_fill` does.
    """
    if lora is None and (own_base := _base_of_adapters(name_or_path)) is not None:
        name_or_path, lora = own_base, name_or_path
    source = _Source.of(name_or_path, base)
    try:
        source.check_there()
        contract = _contract_of(source, lora)
        if contract.shift is not None:
            return contract
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(source.pipeline, subfolder="scheduler")
        return replace(contract, shift=shift_of(scheduler))
    except (OSError, ValueError) as error:
        raise ValueError(_cannot_load(name_or_path, source, lora, error)) from error


def save_editor(
    folder: Path,
    editor: FluxFill,
    *,
    state: Mapping[str, Tensor] | None = None,
    contract: Contract | None = None,
) -> None:
    """Write a whole pipeline folder with the contract beside it, for `load_flux_fill` and `FluxFillPipeline` alike.

    `state` (the transformer's weights by name) and `contract` replace the editor's own; the scheduler written agrees
    with the contract's shift. Of an editor whose text encoders were freed it is the transformer's folder alone. The
    folder appears under its name only when it is complete. Raises FileExistsError if something is there already,
    ValueError for quantized weights.
    """
    transformer: Any = editor.transformer if state is None else _with_state(editor.transformer, state)
    contract = editor.contract if contract is None else contract
    shift = contract.shift or editor.shift
    encoders = {"text_encoder": editor.text_encoder, "text_encoder_2": editor.text_encoder_2} if editor.has_text else {}
    if any(_is_quantized(part) for part in (transformer, *encoders.values())):
        raise ValueError("the editor's weights are quantized: load it without, and save that")
    saved = transformer
    if encoders:
        saved = FluxFillPipeline(
            **encoders,
            transformer=transformer,
            vae=editor.vae,
            tokenizer=editor.tokenizer,
            tokenizer_2=editor.tokenizer_2,
            scheduler=with_shift(editor.scheduler, shift),
        )
    _publish(folder, saved.save_pretrained, replace(contract, shift=shift))


def save_lora(folder: Path, editor: FluxFill, *, base: str, lora: LoraConfig, state: Mapping[str, Tensor]) -> None:
    """Write adapters as diffusers reads them (`load_lora_weights`), the editor's contract and the name of their base.

    `state` is what PEFT trained with `lora`, by its names. `load_flux_fill` puts such a folder on `base` by itself.
    Raises FileExistsError if something is there already.
    """
    tensors = {name.replace(f".{ADAPTER}.", "."): tensor.to("cpu").contiguous() for name, tensor in state.items()}

    settings = lora.to_dict()  # type: ignore[no-untyped-call]

    def save(part: Path) -> None:
        FluxFillPipeline.save_lora_weights(
            part, transformer_lora_layers=tensors, transformer_lora_adapter_metadata=settings
        )
        config = copy.copy(lora)
        config.base_model_name_or_path = base
        config.save_pretrained(str(part))

    _publish(folder, save, replace(editor.contract, shift=editor.shift))


def _publish(folder: Path, save: Callable[[Path], object], contract: Contract) -> None:
    """What `save` writes, with the contract, under its name when it is whole."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} exists already: name another folder or remove it")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with quietly():
            save(partial)
        save_contract(partial, contract)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _with_state(transformer: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """A transformer of the same shape that holds `state` and nothing else."""
    config: Any = transformer.config
    with torch.device("meta"):
        fresh: nn.Module = FluxTransformer2DModel.from_config(config)
    fresh.load_state_dict(dict(state), assign=True)
    return fresh


@dataclass(frozen=True, kw_only=True)
class _Source:
    """Where an editor's parts lie: in `pipeline`, and the transformer in `name` if that is another place.

    `inside` is what of `name` the transformer is: a subfolder, or a file of a Hub repository.
    """

    name: str
    inside: str | None
    pipeline: str

    @staticmethod
    def of(name_or_path: str, base: str | None) -> "_Source":
        name, inside = _split(resolve(name_or_path, "editor"))
        source = _Source(name=name, inside=inside, pipeline=name)
        if base is None and inside is None and not source.is_file and not _is_lone_transformer(name):
            return source
        return replace(source, pipeline=resolve(base or FLUX_FILL, "editor"))

    @property
    def is_whole(self) -> bool:
        """Whether the pipeline there has its own transformer."""
        return self.pipeline == self.name and self.inside is None

    @property
    def is_file(self) -> bool:
        return self.what.endswith(_SINGLE_FILES) and not Path(self.what).is_dir()

    @property
    def what(self) -> str:
        return self.inside or self.name

    def check_there(self) -> None:
        """Looks into a folder, and asks the Hub for a small file of each repository: what is wrong is met at once."""
        config = Path(self.name, self.inside or "", "config.json")
        if not self.is_whole and not self.is_file and config.is_file():
            found = json.loads(config.read_text())
            kind = found.get("_class_name", found.get("model_type"))
            if kind != FluxTransformer2DModel.__name__:
                raise ValueError(f"it holds a model of the kind {kind}, no {FluxTransformer2DModel.__name__}")
        if not Path(self.pipeline).is_dir():
            hf_hub_download(self.pipeline, "model_index.json")
        if not self.is_whole and not self.is_file and not Path(self.name).is_dir():
            hf_hub_download(self.name, "config.json", subfolder=self.inside)

    def local_file(self) -> str:
        """The single file, fetched if it lies on the Hub."""
        return self.name if self.inside is None else str(hf_hub_download(self.name, self.inside))


def _pipeline(source: _Source, execution: Execution, dtype: torch.dtype) -> FluxFillPipeline:
    small = bits_and_bytes(execution, dtype)
    options: dict[str, Any] = {"dtype": dtype, "local_files_only": is_offline_mode()}
    parts: dict[str, nn.Module] = {}
    if not source.is_whole:
        parts["transformer"] = _transformer(source, {**options, **_quantized(small.pop("transformer", None))})
    if small:
        options |= _quantized(PipelineQuantizationConfig(quant_mapping=small))
    return FluxFillPipeline.from_pretrained(source.pipeline, **parts, **options)


def _transformer(source: _Source, options: dict[str, Any]) -> FluxTransformer2DModel:
    if not source.is_file:
        return FluxTransformer2DModel.from_pretrained(source.name, subfolder=source.inside, **options)
    file = source.local_file()
    if file.endswith(_GGUF):
        options |= _quantized(GGUFQuantizationConfig(compute_dtype=options["dtype"]))
    state = _state_of(file)
    _check_fits(state, source)
    return FluxTransformer2DModel.from_single_file(state, config=source.pipeline, subfolder="transformer", **options)


def _check_fits(state: Mapping[str, Tensor], source: _Source) -> None:
    """Raises ValueError unless these are all tensors of the base's transformer, in its shapes where not quantized."""
    offline = is_offline_mode()
    config = FluxTransformer2DModel.load_config(source.pipeline, subfolder="transformer", local_files_only=offline)
    with torch.device("meta"):
        wanted = FluxTransformer2DModel.from_config(config).state_dict()
    differing = sorted(wanted.keys() ^ state.keys())
    if differing:
        lacks = differing[0] in wanted
        raise ValueError(f"{source.what} {'lacks' if lacks else 'has, unlike its base,'} {differing[0]}")
    for name, tensor in state.items():
        if tensor.dtype in _FULL and tensor.shape != wanted[name].shape:
            got, expected = tuple(tensor.shape), tuple(wanted[name].shape)
            raise ValueError(f"{source.what} has {name} of shape {got}, expected {expected} as in {source.pipeline}")


def _state_of(file: str) -> dict[str, Tensor]:
    """The transformer's tensors in a single file, under diffusers' names; ValueError if it holds none."""
    tensors = load_gguf_checkpoint(file) if file.endswith(_GGUF) else load_file(file)
    own = {key.removeprefix(_PREFIX): tensor for key, tensor in tensors.items() if key.startswith(_PREFIX)} or tensors
    if any(key.startswith("transformer_blocks.") for key in own):
        return own
    return from_original(own)


def _base_of_adapters(name: str) -> str | None:
    """The editor that a folder of adapters names as its base; None for anything else."""
    file = Path(name) / ADAPTERS
    if not file.is_file():
        return None
    base: str | None = json.loads(file.read_text()).get("base_model_name_or_path")
    return base


def _quantized(config: object | None) -> dict[str, Any]:
    return {} if config is None else {"quantization_config": config}


def _add_lora(pipeline: FluxFillPipeline, name: str) -> None:
    """Merge the LoRA; quantized weights keep their values, and it works beside them."""
    lora = read_lora(name)
    if _is_quantized(pipeline.transformer):
        tensors = diffusers_tensors(lora)
        pipeline.load_lora_weights({f"transformer.{key}": tensor for key, tensor in tensors.items()})
    else:
        merge_lora(pipeline.transformer, lora)


def _is_quantized(module: nn.Module) -> bool:
    return not {parameter.dtype for parameter in module.parameters()} <= _FULL


def _split(name: str) -> tuple[str, str | None]:
    """`repo:subfolder` in two; a path that exists is never split."""
    if Path(name).exists() or ":" not in name:
        return name, None
    source, _, subfolder = name.partition(":")
    return source, subfolder


def _is_lone_transformer(source: str) -> bool:
    return (Path(source) / "config.json").exists() and not (Path(source) / "model_index.json").exists()


def _contract_of(source: _Source, lora: str | None) -> Contract:
    """The first that there is: the LoRA's, the transformer's, its base's, the default."""
    places = [*([_split(lora)] if lora is not None else []), (source.name, source.inside), (source.pipeline, None)]
    found = (_contract_at(name, inside) for name, inside in places)
    return next((contract for contract in found if contract is not None), Contract())


def _contract_at(name: str, inside: str | None) -> Contract | None:
    """The contract file beside the weights, in a folder or on the Hub, or the published contract of the repository."""
    path = Path(name, inside or "")
    if path.exists():
        file = (path if path.is_dir() else path.parent) / CONTRACT_FILE
        return read_contract(file) if file.exists() else None
    if inside is not None and inside.endswith(_SINGLE_FILES):
        inside = str(PurePosixPath(inside).parent)
    try:
        return read_contract(Path(hf_hub_download(name, CONTRACT_FILE, subfolder=inside)))
    except (EntryNotFoundError, OfflineModeIsEnabled):
        return RELEASED.get(name)


def _copy_to_fresh_memory(module: nn.Module) -> None:
    """Leave the file's memory map: misaligned weights change the last bits of a product."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dtype in _FULL:
            tensor.data = tensor.data.clone()


def _cannot_load(name: str, source: _Source, lora: str | None, error: Exception) -> str:
    tried: Sequence[str] = [
        name,
        *([f"base {source.pipeline}"] if not source.is_whole else []),
        *([f"LoRA {lora}"] if lora else []),
    ]
    refused = access_refused(error)
    if refused is not None:
        return f"cannot load an editor from {', '.join(tried)}: {refused}"
    reason = not_found(error) or (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"cannot load an editor from {', '.join(tried)}: {reason}; expected 'toy', a folder that "
        f"FluxFillPipeline loads, a Hub repository id such as {FLUX_FILL}, REPO:SUBFOLDER of a transformer, or its file"
    )
