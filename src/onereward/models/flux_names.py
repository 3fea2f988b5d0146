"""FLUX's modules by two names: Black Forest Labs' own, which ComfyUI reads, and those of diffusers.

One original module holds, stacked along its rows, what diffusers keeps as several: queries, keys and values, and in a
single block the way into the MLP as well. The final modulation has its two halves the other way round (shift before
scale). Diffusers' own way in, `convert_flux_transformer_checkpoint_to_diffusers`, knows one width only.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_OUTSIDE_BLOCKS = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_text_embed.timestep_embedder.linear_1",),
    "time_in.out_layer": ("time_text_embed.timestep_embedder.linear_2",),
    "vector_in.in_layer": ("time_text_embed.text_embedder.linear_1",),
    "vector_in.out_layer": ("time_text_embed.text_embedder.linear_2",),
    "guidance_in.in_layer": ("time_text_embed.guidance_embedder.linear_1",),
    "guidance_in.out_layer": ("time_text_embed.guidance_embedder.linear_2",),
    "final_layer.adaLN_modulation.1": ("norm_out.linear",),
    "final_layer.linear": ("proj_out",),
}
_DOUBLE_BLOCK = {
    "img_mod.lin": ("norm1.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mod.lin": ("norm1_context.linear",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
_SINGLE_BLOCK = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
    "linear2": ("proj_out",),
}
_FAMILIES = (
    ("", "", _OUTSIDE_BLOCKS),
    ("double_blocks", "transformer_blocks", _DOUBLE_BLOCK),
    ("single_blocks", "single_transformer_blocks", _SINGLE_BLOCK),
)
"""Family of blocks in the original, in diffusers, and the modules within one block."""

SWAPPED = "final_layer.adaLN_modulation.1"
"""The original module whose halves `swap_halves` exchanges."""

_MLP_RATIO = 4


def original_of(module: str) -> str:
    """The original module that holds the rows of diffusers' `module`; ValueError for one that FLUX does not have."""
    for family, in_diffusers, table in _FAMILIES:
        block, within = _split(module, in_diffusers)
        for name, parts in table.items():
            if within in parts:
                return f"{family}{block}{name}"
    raise ValueError(f"{module!r} is no module of FLUX")


def original_named(text: str) -> str:
    """The original module that a LoRA's key names, with dots or with `_` for them; ValueError if FLUX has none such."""
    for family, _, table in _FAMILIES:
        block, within = _split(text, family)
        for name in table:
            if within.replace(".", "_") == name.replace(".", "_"):
                return f"{family}{block.replace('_', '.')}{name}"
    raise ValueError(f"{text!r} is no module of FLUX")


def parts_of(original: str) -> tuple[str, ...]:
    """The diffusers modules that lie in the original module, in the order of their rows."""
    for family, in_diffusers, table in _FAMILIES:
        block, within = _split(original, family)
        if within in table:
            return tuple(f"{in_diffusers}{block}{part}" for part in table[within])
    raise ValueError(f"{original!r} is no module of FLUX")


def row_shares(original: str) -> tuple[int, ...]:
    """How many times as many rows as the first each of `parts_of(original)` has."""
    return tuple(_MLP_RATIO if part.endswith("proj_mlp") else 1 for part in parts_of(original))


def swap_halves(rows: Tensor) -> Tensor:
    """The second half of the rows before the first: shift and scale change places."""
    return torch.cat(rows.chunk(2)[::-1])


def to_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a whole FluxTransformer2DModel under the original names, bit for bit."""
    tensors = {}
    for original in dict.fromkeys(original_of(key.rpartition(".")[0]) for key in state):
        parts = parts_of(original)
        for kind in ("weight", "bias"):
            if f"{parts[0]}.{kind}" in state:
                rows = [state[f"{part}.{kind}"] for part in parts]
                tensor = rows[0] if len(rows) == 1 else torch.cat(rows)
                name = "scale" if original.endswith("_norm") else kind
                tensors[f"{original}.{name}"] = swap_halves(tensor) if original == SWAPPED else tensor
    return tensors


def from_original(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `to_original` was given, for a transformer of any width; ValueError for a name that FLUX does not have."""
    tensors = {}
    for key, tensor in state.items():
        original, _, kind = key.rpartition(".")
        unit = len(tensor) // sum(row_shares(original))
        rows = torch.split(tensor, [share * unit for share in row_shares(original)])
        for part, own in zip(parts_of(original), rows, strict=True):
            name = f"{part}.{'weight' if kind == 'scale' else kind}"
            tensors[name] = swap_halves(own) if original == SWAPPED else own
    return tensors


def _split(name: str, family: str) -> tuple[str, str]:
    """`.7.` (or `_7_`) and what follows, if `name` lies in a block of the family; else nothing and the whole name."""
    match = re.fullmatch(rf"{family}([._]\d+[._])(.+)", name) if family else None
    return (match[1], match[2]) if match else ("", name if not family else "")
