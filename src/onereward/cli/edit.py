"""`onereward edit`: one image and a mask (or how far to extend it) -> the edited image."""

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onereward.cli.editor_options import add_execution, add_source, loader_of, recipe_of, use_local_cache_only
from onereward.terms import Task

if TYPE_CHECKING:
    from onereward.edit.jobs import EditJob
    from onereward.models.contract import Contract

HELP = "repaint the masked part of one image"
EXAMPLE = """
onereward edit --editor toy --image photo.jpg --mask mask.png --task fill --prompt "a red star" --output edited.png
onereward edit --editor toy --image photo.jpg --task extend --ratio 16:9 --output wide.png
onereward edit --recipe edited.json --output again.png
onereward edit --editor toy --input jobs.jsonl --images 4 --grid --output edited
onereward edit --editor toy --show-contract
"""

logger = logging.getLogger(__name__)

_SIDES = ("left", "right", "top", "bottom")
_SETTINGS = ("seed", "steps", "guidance", "true_cfg", "negative_prompt", "fit", "feather")
_JOB_FIELDS = ("image", "mask", "task", "prompt", *_SIDES, "ratio", "size", *_SETTINGS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Editor, image, what to repaint, what to show there, output."""
    parser.add_argument("--editor", metavar="NAME", help="toy, folder, REPO or REPO:SUBFOLDER")
    add_source(parser)
    parser.add_argument("--image", metavar="IN", help="picture to edit, of any size")
    parser.add_argument("--mask", metavar="MASK", help="picture of the image's size, white where to repaint")
    parser.add_argument("--task", choices=[task.value for task in Task])
    parser.add_argument("--prompt", metavar="TEXT", help="what to show there; remove and extend need none")
    parser.add_argument("--output", metavar="OUT", help="file to write: .png, .webp, .tif or .jpg")
    parser.add_argument("--recipe", metavar="JSON", help="make the image again that this recipe lies beside")
    parser.add_argument("--save-recipe", action="store_true", help="write OUT.json, a recipe that makes OUT again")
    parser.add_argument("--show-contract", action="store_true", help="print what the editor was made for, and stop")
    many = parser.add_argument_group("many edits at once (all other options are defaults for what a row leaves out)")
    many.add_argument(
        "--input",
        metavar="JOBS",
        help=".jsonl, .csv or .parquet with a row an edit (image, mask, task, prompt, seed, ...), a folder of pictures "
        "with NAME.mask.png and NAME.txt (the prompt) beside them, or a folder of triplets; --output is then a folder",
    )
    many.add_argument("--images", type=int, default=1, metavar="N", help="images a row, by seeds from its own on")
    many.add_argument("--grid", action="store_true", help="NAME-grid.png a row: source, mask and its images")
    many.add_argument("--skip-bad", action="store_true", help="leave wrong rows out instead of refusing them all")
    many.add_argument("--batch-size", type=int, default=8, metavar="N", help="images made at once (default: 8)")
    many.add_argument("--workers", type=int, default=1, metavar="K", help="processes (default: 1)")
    many.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads a process, on a CPU; moves last bits (default: 1)"
    )
    asked = parser.add_argument_group("settings (default: what the editor was made for)")
    asked.add_argument("--seed", type=int, metavar="N", help="another seed, another image (default: 0)")
    asked.add_argument("--steps", type=int, metavar="N", help="sampling steps")
    asked.add_argument("--guidance", type=float, metavar="X", help="embedded guidance")
    asked.add_argument("--true-cfg", type=float, metavar="X", help="above 1: steer away from the negative prompt")
    asked.add_argument("--negative-prompt", metavar="TEXT", help="what --true-cfg steers away from")
    asked.add_argument(
        "--fit",
        choices=["crop", "pad", "snap"],
        help="what the editor sees: the part around the mask (default), all with mirrored margins, all of it resized",
    )
    asked.add_argument(
        "--feather", type=int, metavar="PX", help="fade the edit in over so many pixels inside the mask (default: 0)"
    )
    extend = parser.add_argument_group("how far to extend, instead of a mask (one of sides, ratio, size)")
    for side in _SIDES:
        extend.add_argument(f"--{side}", type=int, metavar="PX", help=f"pixels to add at the {side}")
    extend.add_argument("--ratio", metavar="W:H", help="widen or heighten to this ratio")
    extend.add_argument("--size", metavar="WxH", help="enlarge to this size, the image in the middle")
    add_execution(parser)


def run(args: argparse.Namespace) -> None:
    """Check what was given, load the editor, edit, write."""
    if args.show_contract:
        _show_contract(args)
    elif args.recipe is not None:
        _make_again(args)
    elif args.input is not None:
        _edit_all(args)
    else:
        _require(args, "editor", "image", "task", "output")
        _edit(args, _with_given({}, args))


def _make_again(args: argparse.Namespace) -> None:
    """The recipe's image again, or a variation of it: what is given beside the recipe replaces what it says."""
    from onereward.edit.jobs import Recipe

    _require(args, "output")
    recipe = Recipe.read(Path(args.recipe))
    if args.editor is None:
        args.editor, args.base, args.lora = recipe.editor, recipe.base, recipe.lora
        args.dtype = recipe.dtype if recipe.dtype and args.dtype == "auto" else args.dtype
        args.quantize, args.cache = args.quantize or recipe.quantize, args.cache or recipe.cache
    job = _with_given(recipe.job.to_values(), args)
    pixels = _edit(args, job)
    if (args.editor, job) == (recipe.editor, recipe.job) and recipe.pixels not in (None, pixels):
        logger.warning(
            "the image differs from the one that the recipe was written for (onereward %s): other weights, versions, "
            "number of threads or device, or another batch",
            recipe.onereward,
        )


def _require(args: argparse.Namespace, *names: str) -> None:
    missing = [f"--{name}" for name in names if getattr(args, name) is None]
    if missing:
        raise ValueError(f"{', '.join(missing)} must be given (see: onereward edit --help)")


def _given(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in _JOB_FIELDS if getattr(args, name) is not None}


def _with_given(values: dict[str, Any], args: argparse.Namespace) -> "EditJob":
    """A job of these values, and in their place what was given on the command line."""
    from onereward.edit.jobs import EditJob

    return EditJob.of({**values, **_given(args)})


def _edit_all(args: argparse.Namespace) -> None:
    """Check every row, load the editor, make what is missing."""
    from functools import partial

    from onereward.edit.batch import edit_all
    from onereward.edit.editor import load_with
    from onereward.edit.job_files import read_rows, unpack_pictures
    from onereward.models.load import load_contract
    from onereward.runtime.track import track

    _require(args, "editor", "output")
    if args.image is not None:
        raise ValueError("got --image and --input: with --input each row names its image")
    source, output = Path(args.input), Path(args.output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file: with --input it is the folder of all images")
    pictures = output / "sources"
    rows = read_rows(source, _given(args), pictures, images=args.images, skip_bad=args.skip_bad)
    total = sum(row.images for row in rows)
    loader = loader_of(args)
    contract = load_contract(args.editor, base=args.base, lora=args.lora)
    unpack_pictures(source, pictures, rows)
    with track(total, "edit") as advance:
        made = edit_all(
            rows,
            output,
            partial(load_with, loader, args.editor),
            recipe_of(args.editor, loader),
            contract=contract,
            batch_size=args.batch_size,
            workers=args.workers,
            threads=args.threads,
            grid=args.grid,
            progress=advance,
        )
    said = {"output": str(output), "images": total, "made": made}
    print(json.dumps(said) if args.json else f"{total} images in {output}, {made} of them made now")


def _edit(args: argparse.Namespace, job: "EditJob") -> str:
    """Make the job's image and return its digest; what can be refused is refused before a large editor is loaded."""
    from onereward.edit.editor import load_with
    from onereward.edit.jobs import digest_of
    from onereward.edit.pictures import FORMATS, encode_picture, mode_in_file
    from onereward.runtime.track import track
    from onereward.store.files import write_atomically

    output = Path(args.output)
    suffix = output.suffix.lower()
    if suffix not in FORMATS:
        raise ValueError(f"--output {output}: unknown image format, expected a name ending in {', '.join(FORMATS)}")
    request = job.request()
    mode = mode_in_file(request.image, suffix)
    loader = loader_of(args)
    editor = load_with(loader, args.editor)
    contract = editor.model.contract
    _say_what_is_not_used(job, contract)
    with track(contract.steps if job.steps is None else job.steps, "edit") as advance:
        [edited] = editor.edit_batch([request], on_step=lambda: advance())
    write_atomically(output, encode_picture(edited, suffix, mode))
    recipe = recipe_of(args.editor, loader)(job=job.with_settings_of(contract), pixels=digest_of(edited))
    said = {"output": str(output), "width": edited.width, "height": edited.height, "seed": job.seed}
    if args.save_recipe:
        said["recipe"] = str(recipe.write_beside(output))
    print(json.dumps(said) if args.json else f"{edited.width}x{edited.height} in {output}")
    return str(recipe.pixels)


def _say_what_is_not_used(job: "EditJob", contract: "Contract") -> None:
    words = contract.prompt_for(job.task, job.prompt)
    if job.prompt not in ("", words):
        logger.warning("task %s asks this editor in its own words, %r: --prompt is not used", job.task, words)
    if job.negative_prompt and (contract.true_cfg if job.true_cfg is None else job.true_cfg) <= 1:
        logger.warning("--negative-prompt is not used: it needs a --true-cfg above 1")


def _show_contract(args: argparse.Namespace) -> None:
    _require(args, "editor")
    use_local_cache_only(args)
    from onereward.models.contract import json_of_contract, table_of_contract
    from onereward.models.load import load_contract

    contract = load_contract(args.editor, base=args.base, lora=args.lora)
    print((json_of_contract if args.json else table_of_contract)(contract).rstrip())
