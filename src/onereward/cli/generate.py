"""`onereward generate`: triplets -> N candidates each."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from onereward.cli import editor_options

if TYPE_CHECKING:
    from onereward.generate.settings import GenerateConfig
    from onereward.models.contract import Contract

HELP = "make N candidates for each triplet"
EXAMPLE = "onereward generate --input triplets --output candidates --editor toy --candidates 4 --workers 2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Input, output, the editor, and the ranges from which settings are drawn."""
    parser.add_argument("--input", required=True, metavar="TRIPLETS", help="folder or URL of triplets")
    parser.add_argument("--output", required=True, metavar="CANDIDATES", help="folder or URL to write")
    parser.add_argument("--editor", required=True, metavar="NAME", help="toy, folder, REPO or REPO:SUBFOLDER")
    editor_options.add_source(parser)
    parser.add_argument("--candidates", type=int, default=4, metavar="N", help="candidates a triplet (default: 4)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of settings and noise (default: 0)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="candidates denoised at once")
    parser.add_argument("--workers", type=int, default=1, metavar="K", help="processes of one thread each (default: 1)")
    parser.add_argument(
        "--own-settings",
        action="store_true",
        help="the editor's own for all candidates, as `study` compares editors: none is drawn but the noise",
    )
    drawn = parser.add_argument_group("drawn for each candidate (defaults: around the editor's own settings)")
    drawn.add_argument("--steps", type=int, nargs="+", metavar="N", help="sampling steps, one of these numbers each")
    drawn.add_argument("--guidance", type=float, nargs=2, metavar=("LOW", "HIGH"), help="range of the guidance")
    drawn.add_argument(
        "--true-cfg",
        type=float,
        nargs="+",
        metavar="X",
        help="true classifier-free guidance, one of these each; 1 is none",
    )
    drawn.add_argument("--noise-scale", type=float, nargs=2, metavar=("LOW", "HIGH"), help="range of the noise's scale")
    drawn.add_argument("--prompt-drop", type=float, metavar="SHARE", help="share of candidates made without the prompt")
    editor_options.add_execution(parser)


def run(args: argparse.Namespace) -> None:
    """Draw settings, run the editor, write."""
    load = editor_options.loader_of(args)
    from functools import partial

    from onereward.generate.stage import generate
    from onereward.runtime.track import track
    from onereward.runtime.workers import workers
    from onereward.store.shards import read_manifest

    shards = len(read_manifest(args.input).shards)
    load_editor = partial(load, args.editor)
    editor = load_editor()
    with workers(args.workers) as executor, track(shards, "generate") as advance:
        manifest = generate(
            args.input,
            args.output,
            _config(args, editor.contract),
            load_editor,
            editor=editor,
            editor_name=args.editor,
            executor=executor,
            progress=advance,
        )
    if args.json:
        print(json.dumps({"output": args.output, "candidates": manifest.rows}))
    else:
        print(f"{manifest.rows} candidates in {args.output}")


def _config(args: argparse.Namespace, contract: "Contract") -> "GenerateConfig":
    """The ranges around the editor's contract, or its own settings, save what was given."""
    from dataclasses import replace

    from onereward.generate.settings import config_around, config_fixed

    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name in ("steps", "guidance", "true_cfg", "noise_scale", "prompt_drop", "batch_size")
        if (value := getattr(args, name)) is not None
    }
    config = config_fixed if args.own_settings else config_around
    return replace(config(contract, candidates=args.candidates, seed=args.seed), **given)
