"""Options of every verb that loads an editor: which one, and how it runs."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, get_args

from onereward.models.execution import Execution, Offload, Quantize

if TYPE_CHECKING:
    from collections.abc import Callable

    from onereward.edit.jobs import Recipe
    from onereward.models.load import Loader


def add_source(parser: argparse.ArgumentParser) -> None:
    """`--base`, `--lora`: what an editor's name alone does not say."""
    parser.add_argument("--base", metavar="REPO", help="pipeline that lends a lone transformer its other parts")
    parser.add_argument(
        "--lora", metavar="PATH", help="LoRA to merge into the editor: file, folder or REPO[:SUBFOLDER]"
    )


def add_execution(parser: argparse.ArgumentParser, *, training: bool = False) -> None:
    """Where and how the editor runs; one that is trained stays in its own precision, and only its place is asked."""
    runs = parser.add_argument_group("where and how the editor runs")
    runs.add_argument(
        "--device",
        metavar="NAME",
        default=None if training else "auto",
        help="cpu, cuda, cuda:1 or mps (default: the GPU if there is one)",
    )
    runs.add_argument("--offline", action="store_true", help="take models from the local cache, never ask the Hub")
    if training:
        return
    runs.add_argument("--dtype", metavar="NAME", default="auto", help="bf16, fp16 or fp32 (default: bf16 on a GPU)")
    runs.add_argument("--quantize", choices=get_args(Quantize), help="weights in 8 or 4 bits; int8 and nf4 need a GPU")
    runs.add_argument("--offload", choices=get_args(Offload), help="keep weights off the GPU: whole models, or layers")
    runs.add_argument("--compile", action="store_true", help="compile the transformer: slow first step, faster others")
    runs.add_argument("--vae-tiling", action="store_true", help="encode and decode a large image in tiles")
    runs.add_argument("--vae-slicing", action="store_true", help="encode and decode a batch one image at a time")
    runs.add_argument(
        "--cache", type=float, metavar="SHARE", help="skip a step's later blocks if little changed, such as 0.1: faster"
    )


def loader_of(args: argparse.Namespace) -> "Loader":
    """What loads an editor as the options ask; ValueError for a device or setting that is not there."""
    use_local_cache_only(args)
    from dataclasses import fields

    from onereward.models.device import default_device, device_named, dtype_named
    from onereward.models.load import Loader

    device = default_device() if args.device is None else device_named(args.device)
    given = vars(args)
    return Loader(
        device=device,
        dtype=dtype_named(given.get("dtype", "fp32"), device),
        base=given.get("base"),
        lora=given.get("lora"),
        execution=Execution(**{each.name: given[each.name] for each in fields(Execution) if each.name in given}),
    )


def recipe_of(editor: str, loader: "Loader") -> "Callable[..., Recipe]":
    """What makes the Recipe of a `job` and its `pixels`, edited by the editor of that name."""
    from functools import partial

    from onereward.edit.jobs import Recipe
    from onereward.models.device import DTYPES

    return partial(
        Recipe,
        editor=editor,
        base=loader.base,
        lora=loader.lora,
        dtype=next(name for name, value in DTYPES.items() if value == loader.dtype),
        quantize=loader.execution.quantize,
        cache=loader.execution.cache,
    )


def use_local_cache_only(args: argparse.Namespace) -> None:
    """With `--offline`: from here on this process, and those it starts, never ask the Hub."""
    if not args.offline:
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    if "huggingface_hub" in sys.modules:  # it has read the environment already
        from huggingface_hub import constants

        constants.HF_HUB_OFFLINE = True
