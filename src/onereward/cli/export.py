"""`onereward export`: an editor -> what diffusers, ComfyUI and the Hub load."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onereward.models.flux_fill import FluxFill
    from onereward.models.lora import Extraction

HELP = "write an editor or a LoRA as diffusers, ComfyUI and the Hub load it, with a model card"
EXAMPLE = """
onereward export --editor runs/rl/final --as folder --report report/report.json --output my-editor
onereward export --editor runs/rl/final --as lora --rank 64 --output my-lora
onereward export --editor black-forest-labs/FLUX.1-Fill-dev --lora my-lora --as comfyui-lora --output my-comfyui-lora
"""

_FORMS = ("folder", "lora", "comfyui-lora", "single-file")
_DTYPES = ("float32", "bfloat16")
_RANK = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The editor, the form of the export, what goes on the card."""
    parser.add_argument("--editor", required=True, metavar="NAME", help="toy, folder, REPO or REPO:SUBFOLDER")
    parser.add_argument("--base", metavar="REPO", help="pipeline that lends a lone transformer its other parts")
    parser.add_argument(
        "--lora", metavar="PATH", help="LoRA of this editor: merged into it, or exported itself by the LoRA forms"
    )
    parser.add_argument(
        "--as",
        dest="form",
        required=True,
        choices=_FORMS,
        help="a whole pipeline, a LoRA by diffusers' or ComfyUI's names, the transformer as one file for ComfyUI",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--start",
        metavar="NAME",
        help="editor that this one was trained from (default: as its run.json says); a LoRA is taken from the difference",
    )
    parser.add_argument("--rank", type=int, metavar="R", help=f"rank of a LoRA taken from it (default: {_RANK})")
    parser.add_argument("--dtype", choices=_DTYPES, default=_DTYPES[0], help="precision of what is read and written")
    parser.add_argument("--report", metavar="FILE", help="report.json whose figures the card shows")
    parser.add_argument("--report-name", metavar="NAME", help="the editor's name in it (default: the only one)")


def run(args: argparse.Namespace) -> None:
    """Check what was given, load, write."""
    from onereward.export.card import CardFacts, card_text, read_figures, read_training, trained_from
    from onereward.export.stage import Form, export_folder, export_lora, export_single_file, require_free, weights_of
    from onereward.models.lora import read_lora

    output, form = Path(args.output), Form(args.form)
    require_free(output)
    figures = read_figures(Path(args.report), args.report_name) if args.report else None
    extracts = form in (Form.LORA, Form.COMFYUI_LORA) and (args.lora is None or args.start is not None)
    renames = form in (Form.LORA, Form.COMFYUI_LORA) and not extracts
    start = args.editor if renames else args.start or trained_from(args.editor)
    _check(args, extracts=extracts, start=start)
    editor = _load(args.editor, args)
    kept = None
    if extracts:
        extraction = _extract(start, editor, args)
        lora, kept = extraction.lora, extraction.energy
    elif renames:
        lora = read_lora(args.lora)
    card = card_text(
        CardFacts(
            output=output,
            form=form,
            editor=args.editor,
            contract=editor.contract,
            start=start,
            base=args.base,
            lora=args.lora,
            kept=kept,
            training=(args.lora and read_training(args.lora)) or read_training(args.editor),
            figures=figures,
        )
    )
    if extracts or renames:
        export_lora(output, form, lora, editor.contract, card)
    elif form is Form.FOLDER:
        export_folder(output, editor, card)
    else:
        export_single_file(output, editor, card)
    said = {"output": args.output, "weights": str(weights_of(output, form))}
    if kept is not None:
        said |= {"rank": args.rank or _RANK, "kept": kept}
    print(json.dumps(said) if args.json else _told(said))


def _check(args: argparse.Namespace, *, extracts: bool, start: str | None) -> None:
    """Refuse what does not go together before anything large is loaded."""
    if args.report_name and not args.report:
        raise ValueError("got --report-name without --report, expected the report.json in which it is named")
    if args.rank is not None and not extracts:
        raise ValueError(
            f"got --rank with --as {args.form} of this editor: it is for a LoRA taken from a full fine-tune"
        )
    if args.rank is not None and args.rank < 1:
        raise ValueError(f"got --rank {args.rank}, expected 1 or more")
    if extracts and start is None:
        raise ValueError(
            f"--as {args.form} of a full fine-tune needs --start, the editor from which it was trained: no run.json "
            f"beside {args.editor} says it (or give a --lora to export that)"
        )


def _load(name: str, args: argparse.Namespace) -> "FluxFill":
    import torch

    from onereward.models.load import load_flux_fill

    return load_flux_fill(name, base=args.base, lora=args.lora, dtype=getattr(torch, args.dtype))


def _extract(start: str, editor: "FluxFill", args: argparse.Namespace) -> "Extraction":
    from torch import nn

    from onereward.models.device import default_device
    from onereward.models.load import load_flux_fill
    from onereward.models.lora import extract_lora
    from onereward.runtime.track import track

    before = load_flux_fill(start, dtype=editor.transformer.dtype).transformer
    modules = sum(isinstance(module, nn.Linear) for module in editor.transformer.modules())
    with track(modules, "export") as advance:
        return extract_lora(
            before, editor.transformer, args.rank or _RANK, device=default_device(), on_module=lambda: advance()
        )


def _told(said: dict[str, Any]) -> str:
    if "kept" not in said:
        return f"{said['weights']}; its card is in {said['output']}"
    kept = f"rank {said['rank']} keeps {100 * said['kept']:.2f} % of the squared change"
    return f"{said['weights']}: {kept}; its card is in {said['output']}"
