"""A LoRA as an object: read from the formats people share, merged, taken from a full fine-tune, written again.

Module names are diffusers'. Shape legend: O output features, I input features, R rank.
"""

import logging
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxFillPipeline, FluxTransformer2DModel
from huggingface_hub import hf_hub_download, list_repo_files
from huggingface_hub.errors import EntryNotFoundError
from peft import LoraConfig
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from onereward.models.flux_names import (
    SWAPPED,
    original_named,
    original_of,
    parts_of,
    row_shares,
    swap_halves,
)

logger = logging.getLogger(__name__)

_PEFT_CONFIG = "adapter_config.json"
_USUAL_FILES = ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
_NORMS = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")
_TEXT_ENCODERS = ("text_encoder", "lora_te")
_ORIGINAL_KEY = re.compile(
    r"(?:lora_unet_|diffusion_model\.)(?P<module>.+?)\.(?P<part>lora_down\.weight|lora_up\.weight|lora_A\.weight"
    r"|lora_B\.weight|alpha|lora_B\.bias|diff_b|set_weight)"
)
_DIFFUSERS_KEY = re.compile(
    r"(?:transformer\.|base_model\.model\.)?(?P<module>.+?)\.(?P<part>lora_A\.weight|lora_B\.weight|lora_B\.bias|weight)"
)
_ONE_WORD = {"lora_A.weight": "down", "lora_down.weight": "down", "lora_B.weight": "up", "lora_up.weight": "up"}
_ONE_WORD |= {"lora_B.bias": "bias", "diff_b": "bias", "set_weight": "weight"}


@dataclass(frozen=True, kw_only=True)
class LoraLayer:
    """The change of one linear module: up @ down to its weight, `bias_O` (or nothing) to its bias.

    The scale that a file gives as alpha is in `up_OR` (and the bias) already.
    """

    down_RI: Tensor
    up_OR: Tensor
    bias_O: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Layers by module, and the scales of normalisations by module, which replace the model's own."""

    layers: Mapping[str, LoraLayer]
    norms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Extraction:
    """A LoRA taken from a full fine-tune, and the share of the squared change of all linear weights that it keeps."""

    lora: Lora
    energy: float


def read_lora(name_or_path: str) -> Lora:
    """The LoRA in a safetensors file, a folder, or a Hub repository (`REPO`, `REPO:SUBFOLDER` or `REPO:FILE`).

    Reads what PEFT saves (with its `adapter_config.json`), diffusers' names, the original names of ComfyUI and kohya,
    and what else diffusers converts. What it says of text encoders is left out, with a warning. Raises ValueError if no
    LoRA for FLUX lies there, or if it holds what a `Lora` cannot.
    """
    file = _find(name_or_path)
    try:
        lora = _read(file)
    except (KeyError, AssertionError, NotImplementedError, SafetensorError, ValueError) as error:
        raise ValueError(f"cannot read a LoRA for FLUX from {name_or_path}: {error}") from error
    if not lora.layers and not lora.norms:
        raise ValueError(f"{name_or_path} holds no LoRA for FLUX's transformer")
    return lora


@torch.no_grad()
def merge_lora(transformer: FluxTransformer2DModel, lora: Lora, scale: float = 1.0) -> None:
    """Add `scale` times the LoRA to the transformer's weights, in place, with one rounding to their precision.

    Raises ValueError, and changes nothing, for modules that the transformer lacks or that have another shape.
    """
    modules = {name: module for name, module in transformer.named_modules() if hasattr(module, "weight")}
    lacking = sorted({*lora.layers, *lora.norms} - set(modules))
    if lacking:
        raise ValueError(f"the LoRA is for another transformer: this one has no {_listed(lacking)}")
    shapes = {name: torch.Size([len(layer.up_OR), layer.down_RI.shape[1]]) for name, layer in lora.layers.items()}
    shapes |= {name: norm.shape for name, norm in lora.norms.items()}
    misfits = [
        f"{name} (its {tuple(shape)}, here {tuple(modules[name].weight.shape)})"
        for name, shape in shapes.items()
        if modules[name].weight.shape != shape
    ]
    if misfits:
        raise ValueError(f"the LoRA is for a transformer of other shapes: {_listed(misfits)}")
    for name, layer in lora.layers.items():
        weight, bias = modules[name].weight, modules[name].bias
        _add(weight, _working(layer.up_OR, weight) @ _working(layer.down_RI, weight), scale)
        if layer.bias_O is not None:
            _add(bias, layer.bias_O, scale)
    for name, norm in lora.norms.items():
        weight = modules[name].weight
        weight.copy_(torch.lerp(_working(weight, weight), _working(norm, weight), scale))


@torch.no_grad()
def extract_lora(
    start: FluxTransformer2DModel,
    tuned: FluxTransformer2DModel,
    rank: int,
    *,
    device: torch.device | str = "cpu",
    on_module: Callable[[], object] = lambda: None,
) -> Extraction:
    """The best LoRA of that rank from `start` to `tuned`: the largest singular values of each weight's change.

    Changed biases and normalisations are carried whole, so that at full rank start + LoRA = tuned. `device` computes,
    module by module; `on_module` is called after each linear one. Raises ValueError for transformers of different
    shapes or equal weights, and for a rank below 1.
    """
    if rank < 1:
        raise ValueError(f"got rank {rank}, expected 1 or more")
    before, after = dict(start.named_modules()), dict(tuned.named_modules())
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (start, tuned)]
    if shapes[0] != shapes[1]:
        raise ValueError("the two transformers differ in shape: name the editor from which the other one was trained")
    layers, norms, kept, total = {}, {}, 0.0, 0.0
    for name, module in after.items():
        if isinstance(module, nn.Linear):
            layer, singular = _layer_between(before[name], module, rank, device)
            kept, total = kept + float(singular[:rank].square().sum()), total + float(singular.square().sum())
            if layer is not None:
                layers[name] = layer
            on_module()
        elif name.rpartition(".")[2] in _NORMS and not torch.equal(module.weight, before[name].weight):
            norms[name] = module.weight.detach().clone()
    if not layers and not norms:
        raise ValueError("the two transformers have the same weights: there is nothing to extract")
    return Extraction(lora=Lora(layers=layers, norms=norms), energy=kept / total if total else 1.0)


def diffusers_tensors(lora: Lora) -> dict[str, Tensor]:
    """The LoRA under the names of FluxTransformer2DModel, each alpha its rank: what `save_lora_weights` takes."""
    dtype = _common_dtype(lora)
    with_bias = any(layer.bias_O is not None for layer in lora.layers.values())
    tensors = {}
    for name, layer in lora.layers.items():
        tensors[f"{name}.lora_A.weight"] = layer.down_RI
        tensors[f"{name}.lora_B.weight"] = layer.up_OR
        if with_bias:  # peft has biases in all modules or in none
            tensors[f"{name}.lora_B.bias"] = _bias_of(layer)
    tensors |= {f"{name}.weight": norm for name, norm in lora.norms.items()}
    return {key: tensor.to("cpu", dtype).contiguous() for key, tensor in tensors.items()}


def comfyui_tensors(lora: Lora) -> dict[str, Tensor]:
    """The LoRA under the original names, as kohya and ComfyUI write them: `lora_unet_<module>.lora_down.weight`.

    Layers whose modules the original fuses become one, the sum of their ranks: downs stacked, ups block-diagonal.
    Biases are ComfyUI's `.diff_b`, normalisations its `.set_weight`.
    """
    dtype = _common_dtype(lora)
    tensors = {}
    for original in dict.fromkeys(map(original_of, lora.layers)):
        key = f"lora_unet_{original.replace('.', '_')}"
        layer = _fused([lora.layers.get(part) for part in parts_of(original)], row_shares(original))
        swap = swap_halves if original == SWAPPED else (lambda rows: rows)
        tensors[f"{key}.lora_down.weight"] = layer.down_RI
        tensors[f"{key}.lora_up.weight"] = swap(layer.up_OR)
        tensors[f"{key}.alpha"] = torch.tensor(float(len(layer.down_RI)))
        if layer.bias_O is not None:
            tensors[f"{key}.diff_b"] = swap(layer.bias_O)
    tensors |= {
        f"lora_unet_{original_of(name).replace('.', '_')}.set_weight": norm for name, norm in lora.norms.items()
    }
    return {key: tensor.to("cpu", dtype).contiguous() for key, tensor in tensors.items()}


def _find(name: str) -> Path:
    """The local file of a LoRA, fetched if it lies on the Hub."""
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        return path / _weight_file([file.name for file in path.iterdir()], name)
    repository, _, inside = name.partition(":")
    if repository.count("/") != 1 or name.startswith((".", "/")):
        raise ValueError(f"no LoRA at {name}: expected a file, a folder, REPO, REPO:SUBFOLDER or REPO:FILE")
    try:
        if not inside.endswith(".safetensors"):
            folder = f"{inside}/" if inside else ""
            there = [file.removeprefix(folder) for file in list_repo_files(repository) if file.startswith(folder)]
            inside = folder + _weight_file([file for file in there if "/" not in file], name)
        file = Path(hf_hub_download(repository, inside))
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot fetch the LoRA {name}: {str(error).splitlines()[0]}") from error
    try:
        hf_hub_download(repository, str(Path(inside).with_name(_PEFT_CONFIG)))
    except EntryNotFoundError:
        logger.debug("%s is no PEFT folder", name)
    return file


def _weight_file(files: Sequence[str], name: str) -> str:
    weights = sorted(file for file in files if file.endswith(".safetensors"))
    usual = [file for file in _USUAL_FILES if file in weights]
    if not usual and len(weights) != 1:
        raise ValueError(f"{name} holds {_listed(weights) or 'no .safetensors file'}: name the LoRA's file itself")
    return usual[0] if usual else weights[0]


def _read(file: Path) -> Lora:
    with safe_open(file, framework="pt") as opened:
        keys = list(opened.keys())
    if any(key.startswith(("lora_unet_", "diffusion_model.")) for key in keys) and "processor" not in "".join(keys):
        return _from_original(load_file(file))
    if any(key.startswith("base_model.model.") for key in keys) and "double_blocks" not in "".join(keys):
        if not file.with_name(_PEFT_CONFIG).exists():
            raise ValueError(f"expected {_PEFT_CONFIG} beside it, which holds the adapter's scale")
        return _from_diffusers(load_file(file), _peft_scales(LoraConfig.from_pretrained(str(file.parent))))
    tensors, alphas, settings = FluxFillPipeline.lora_state_dict(
        str(file), return_alphas=True, return_lora_metadata=True
    )
    if settings:
        own = {key.removeprefix("transformer."): settings[key] for key in settings if key.startswith("transformer.")}
        return _from_diffusers(tensors, _peft_scales(LoraConfig(**own)))
    alphas = {key.removeprefix("transformer."): float(alpha) for key, alpha in (alphas or {}).items()}
    return _from_diffusers(tensors, lambda module, rank: alphas.get(f"{module}.alpha", rank) / rank)


def _peft_scales(config: LoraConfig) -> Callable[[str, int], float]:
    """PEFT's rule for the scale of a module's adapter."""
    if config.use_dora:
        raise ValueError("it is a DoRA, which is no sum with the weights: merge it with PEFT")

    patterns = config.alpha_pattern or {}

    def scale(module: str, rank: int) -> float:
        alpha: float = patterns.get(get_pattern_key(list(patterns), module), config.lora_alpha)
        return alpha / (math.sqrt(rank) if config.use_rslora else rank)

    return scale


def _from_diffusers(tensors: Mapping[str, Tensor], scale_of: Callable[[str, int], float]) -> Lora:
    layers, norms = {}, {}
    for module, group in _grouped(tensors, _DIFFUSERS_KEY).items():
        if set(group) == {"weight"} and module.rpartition(".")[2] in _NORMS:
            norms[module] = group["weight"]
            continue
        down, up = _pair(module, group)
        scale = scale_of(module, len(down))
        bias = _times(group["bias"], scale) if "bias" in group else None
        layers[module] = LoraLayer(down_RI=down, up_OR=_times(up, scale), bias_O=bias)
    return Lora(layers=layers, norms=norms)


def _from_original(tensors: Mapping[str, Tensor]) -> Lora:
    layers: dict[str, LoraLayer] = {}
    norms: dict[str, Tensor] = {}
    for name, group in _grouped(tensors, _ORIGINAL_KEY).items():
        original = original_named(name)
        if set(group) == {"weight"} and original.endswith("_norm"):
            norms[parts_of(original)[0]] = group["weight"]
            continue
        down, up = _pair(name, group)
        up = _times(up, float(group["alpha"]) / len(down)) if "alpha" in group else up
        bias = group.get("bias")
        if original == SWAPPED:
            up, bias = swap_halves(up), None if bias is None else swap_halves(bias)
        layers |= _unfused(original, LoraLayer(down_RI=down, up_OR=up, bias_O=bias))
    return Lora(layers=layers, norms=norms)


def _grouped(tensors: Mapping[str, Tensor], pattern: re.Pattern[str]) -> dict[str, dict[str, Tensor]]:
    """Module -> `down`, `up`, `alpha`, `bias`, `weight` -> tensor."""
    groups: dict[str, dict[str, Tensor]] = {}
    text, unknown = [], []
    for key, tensor in tensors.items():
        match = pattern.fullmatch(key)
        if key.startswith(_TEXT_ENCODERS):
            text.append(key)
        elif match is None:
            unknown.append(key)
        else:
            groups.setdefault(match["module"], {})[_ONE_WORD.get(match["part"], match["part"])] = tensor
    if unknown:
        raise ValueError(f"it holds what no LoRA of linear modules has: {_listed(unknown)}")
    if text:
        logger.warning("the LoRA also changes text encoders: these %d tensors are left out", len(text))
    return groups


def _pair(module: str, group: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    if not {"down", "up"} <= set(group):
        raise ValueError(f"{module} has {_listed(sorted(group))}, expected both halves of a LoRA layer")
    return group["down"], group["up"]


def _fused(layers: Sequence[LoraLayer | None], shares: Sequence[int]) -> LoraLayer:
    """One layer over the rows of several modules, some of which may have none."""
    present = [layer for layer in layers if layer is not None]
    unit = next(len(layer.up_OR) // share for layer, share in zip(layers, shares, strict=True) if layer is not None)
    ups, biases = [], []
    for layer, share in zip(layers, shares, strict=True):
        ups.append(present[0].up_OR.new_zeros(share * unit, 0) if layer is None else layer.up_OR)
        biases.append(present[0].up_OR.new_zeros(share * unit) if layer is None else _bias_of(layer))
    has_bias = any(layer.bias_O is not None for layer in present)
    return LoraLayer(
        down_RI=torch.cat([layer.down_RI for layer in present]),
        up_OR=torch.block_diag(*ups),  # type: ignore[no-untyped-call]
        bias_O=torch.cat(biases) if has_bias else None,
    )


def _unfused(original: str, layer: LoraLayer) -> dict[str, LoraLayer]:
    """The layer of each diffusers module in the original one, without the ranks that do not reach its rows."""
    parts, shares = parts_of(original), row_shares(original)
    if len(parts) == 1:
        return {parts[0]: layer}
    unit = len(layer.up_OR) // sum(shares)
    counts = [share * unit for share in shares]
    if sum(counts) != len(layer.up_OR):
        raise ValueError(f"{original} has {len(layer.up_OR)} rows, expected a multiple of {sum(shares)}")
    ups = torch.split(layer.up_OR, counts)
    biases = [None] * len(parts) if layer.bias_O is None else torch.split(layer.bias_O, counts)
    found = {}
    for part, up, bias in zip(parts, ups, biases, strict=True):
        reaching = up.any(0).nonzero().flatten()
        if not len(reaching) and bias is not None and bias.any():
            reaching = reaching.new_zeros(1)  # a bias needs a layer to travel in
        if len(reaching):
            found[part] = LoraLayer(down_RI=layer.down_RI[reaching], up_OR=up[:, reaching], bias_O=bias)
    return found


def _layer_between(
    start: nn.Linear, tuned: nn.Linear, rank: int, device: torch.device | str
) -> tuple[LoraLayer | None, Tensor]:
    """The layer of that rank, None if nothing changed, and all singular values of the weight's change."""
    change_OI = _change(start.weight, tuned.weight).to(device)
    bias_O = _change(start.bias, tuned.bias)
    if not bias_O.any() and not change_OI.any():
        return None, change_OI.new_zeros(1)
    left_OK, singular_K, right_KI = torch.linalg.svd(change_OI, full_matrices=False)
    root_R = singular_K[:rank].sqrt()
    layer = LoraLayer(
        down_RI=(root_R[:, None] * right_KI[:rank]).to(tuned.weight),
        up_OR=(left_OK[:, :rank] * root_R).to(tuned.weight),
        bias_O=bias_O.to(tuned.bias) if bias_O.any() else None,
    )
    return layer, singular_K


def _change(start: Tensor, tuned: Tensor) -> Tensor:
    return _working(tuned, tuned) - _working(start, tuned)


def _working(tensor: Tensor, weight: Tensor) -> Tensor:
    """The tensor where the weight is, in its precision or in float32 if that is finer."""
    return tensor.to(weight.device, torch.promote_types(weight.dtype, torch.float32))


def _add(weight: Tensor, change: Tensor, scale: float) -> None:
    weight.copy_(_working(weight, weight) + scale * _working(change, weight))


def _times(tensor: Tensor, scale: float) -> Tensor:
    """The product, in float32 if the tensor's own precision would round it (a power of two rounds nothing)."""
    if math.frexp(scale)[0] != 0.5:
        tensor = tensor.to(torch.promote_types(tensor.dtype, torch.float32))
    return tensor * scale


def _bias_of(layer: LoraLayer) -> Tensor:
    return layer.up_OR.new_zeros(len(layer.up_OR)) if layer.bias_O is None else layer.bias_O


def _common_dtype(lora: Lora) -> torch.dtype:
    """One precision for the whole file, the finest in it: readers look at the first tensor only."""
    tensors = [tensor for layer in lora.layers.values() for tensor in (layer.down_RI, layer.up_OR)]
    return reduce(torch.promote_types, (tensor.dtype for tensor in (*tensors, *lora.norms.values())))


def _listed(names: Iterable[Any], most: int = 5) -> str:
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
