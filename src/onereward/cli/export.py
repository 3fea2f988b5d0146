"""`onereward export`: an editor or a LoRA as diffusers, ComfyUI and the Hub take it."""

import argparse
import json
from pathlib import Path

HELP = "write an editor or a LoRA as diffusers, ComfyUI and the Hub load it, with a model card"
EXAMPLE = """
onereward export --editor runs/rl/final --as folder --report report/report.json --output my-editor
onereward export --editor runs/rl/final --as lora --rank 64 --output my-lora
onereward export --editor black-forest-labs/FLUX.1-Fill-dev --lora my-lora --as comfyui-lora --output my-comfyui-lora
"""

_FORMS = ("folder", "lora", "comfyui-lora", "single-file")
_DTYPES = ("float32", "bfloat16")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The editor, the form, what a LoRA is taken from, what the card shows."""
    parser.add_argument("--editor", required=True, metavar="NAME", help="toy, folder, REPO or REPO:SUBFOLDER")
    parser.add_argument("--base", metavar="REPO", help="pipeline that lends a lone transformer its other parts")
    parser.add_argument(
        "--lora", metavar="PATH", help="LoRA of this editor: merged into it, or written itself by the LoRA forms"
    )
    parser.add_argument(
        "--as",
        dest="form",
        required=True,
        choices=_FORMS,
        help="a whole pipeline, a LoRA by diffusers' or by ComfyUI's names, the transformer in one file for ComfyUI",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--dtype", choices=_DTYPES, default="float32", help="precision of the weights")
    parser.add_argument("--report", metavar="FILE", help="report.json whose figures the card shows")
    parser.add_argument("--report-name", metavar="NAME", help="the editor's name in it (default: the only one)")
    taken = parser.add_argument_group("a LoRA taken from a full fine-tune")
    taken.add_argument(
        "--start", metavar="NAME", help="editor that this one was trained from (default: as its run.json says)"
    )
    taken.add_argument("--rank", type=int, default=64, metavar="R", help="its rank (default: 64)")


def run(args: argparse.Namespace) -> None:
    """Check what was given, load, write."""
    if args.rank < 1:
        raise ValueError(f"got --rank {args.rank}, expected 1 or more")

    from onereward.export.forms import Form
    from onereward.export.stage import DTYPES, ExportConfig, export

    config = ExportConfig(
        editor=args.editor,
        form=Form(args.form),
        base=args.base,
        lora=args.lora,
        start=args.start,
        rank=args.rank,
        dtype=DTYPES[args.dtype],
        report=Path(args.report) if args.report else None,
        report_name=args.report_name,
    )
    exported = export(config, Path(args.output))
    said = {"output": args.output, "weights": str(exported.weights)}
    if args.json:
        print(json.dumps(said | ({} if exported.kept is None else {"rank": args.rank, "kept": exported.kept})))
        return
    kept = "" if exported.kept is None else f", {100 * exported.kept:.2f} % of the squared change at rank {args.rank}"
    print(f"{exported.weights}{kept}; the card is in {args.output}")
