"""`onereward edit`: one image and a mask (or how far to extend it) -> the edited image."""

import argparse
import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from onereward.terms import Task

if TYPE_CHECKING:
    from PIL import Image

HELP = "repaint the masked part of one image"
EXAMPLE = """
onereward edit --editor toy --image photo.jpg --mask mask.png --task fill --prompt "a red star" --output edited.png
onereward edit --editor toy --image photo.jpg --task extend --ratio 16:9 --output wide.png
"""

logger = logging.getLogger(__name__)

_FORMATS: dict[str, tuple[str, dict[str, int | bool]]] = {
    ".png": ("PNG", {}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),
    ".tif": ("TIFF", {}),
    ".tiff": ("TIFF", {}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
}
"""Output suffix -> Pillow's format and options; all but JPEG keep every pixel."""

_SIDES = ("left", "right", "top", "bottom")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Editor, image, what to repaint, what to show there, output."""
    parser.add_argument("--editor", required=True, metavar="NAME", help="toy, folder, REPO or REPO:SUBFOLDER")
    parser.add_argument("--base", metavar="REPO", help="pipeline that lends a lone transformer its other parts")
    parser.add_argument("--lora", metavar="PATH", help="LoRA to merge into the editor")
    parser.add_argument("--image", required=True, metavar="IN", help="picture to edit, of any size")
    parser.add_argument("--mask", metavar="MASK", help="picture of the image's size, white where to repaint")
    parser.add_argument("--task", required=True, choices=[task.value for task in Task])
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what to show there; remove and extend need none")
    parser.add_argument("--output", required=True, metavar="OUT", help=f"file to write: {', '.join(_FORMATS)}")
    asked = parser.add_argument_group("settings (default: what the editor was made for)")
    asked.add_argument("--seed", type=int, default=0, metavar="N", help="another seed, another image (default: 0)")
    asked.add_argument("--steps", type=int, metavar="N", help="sampling steps")
    asked.add_argument("--guidance", type=float, metavar="X", help="embedded guidance")
    asked.add_argument("--true-cfg", type=float, metavar="X", help="above 1: steer away from the negative prompt")
    asked.add_argument("--negative-prompt", metavar="TEXT", help="what --true-cfg steers away from")
    extend = parser.add_argument_group("how far to extend, instead of a mask (one of sides, ratio, size)")
    for side in _SIDES:
        extend.add_argument(f"--{side}", type=int, metavar="PX", help=f"pixels to add at the {side}")
    extend.add_argument("--ratio", type=_pair(":"), metavar="W:H", help="widen or heighten to this ratio")
    extend.add_argument("--size", type=_pair("x"), metavar="WxH", help="enlarge to this size, the image in the middle")


def run(args: argparse.Namespace) -> None:
    """Check what was given, load the editor, edit, write."""
    output = Path(args.output)
    if output.suffix.lower() not in _FORMATS:
        raise ValueError(f"--output {output}: unknown image format, expected a name ending in {', '.join(_FORMATS)}")

    from onereward.edit import EditRequest, load_editor
    from onereward.models.contract import Contract
    from onereward.runtime.track import track
    from onereward.store.files import write_atomically

    # All that can be refused is refused before a large editor is loaded.
    for option, least in {"seed": 0, "steps": 1, "true_cfg": 1}.items():
        value = getattr(args, option)
        if value is not None and value < least:
            raise ValueError(f"got --{option.replace('_', '-')} {value}, expected {least} or more")
    task = Task(args.task)
    image, mask = _image_and_mask(args)
    Contract().prompt_for(task, args.prompt)
    encode = _encoder(image, output.suffix.lower())
    editor = load_editor(args.editor, base=args.base, lora=args.lora)
    words = editor.model.contract.prompt_for(task, args.prompt)
    if args.prompt not in ("", words):
        logger.warning("task %s asks this editor in its own words, %r: --prompt is not used", task, words)
    true_cfg = editor.model.contract.true_cfg if args.true_cfg is None else args.true_cfg
    if args.negative_prompt and true_cfg <= 1:
        logger.warning("--negative-prompt is not used: it needs a --true-cfg above 1")
    edit = EditRequest(
        image=image,
        mask=mask,
        prompt=args.prompt,
        task=task,
        seed=args.seed,
        guidance=args.guidance,
        true_cfg=args.true_cfg,
    )
    with track(editor.model.contract.steps if args.steps is None else args.steps, "edit") as advance:
        [edited] = editor.edit_batch(
            [edit], steps=args.steps, negative_prompt=args.negative_prompt, on_step=lambda: advance()
        )
    write_atomically(output, encode(edited))
    if args.json:
        print(json.dumps({"output": str(output), "width": edited.width, "height": edited.height, "seed": args.seed}))
    else:
        print(f"{edited.width}x{edited.height} in {output}")


def _image_and_mask(args: argparse.Namespace) -> "tuple[Image.Image, Image.Image]":
    """The picture and its mask, or the larger canvas of an extend and the mask of what is new on it."""
    from onereward.edit import Borders, extend_canvas, picture_and_mask

    sides = {side: getattr(args, side) for side in _SIDES if getattr(args, side) is not None}
    given = sum([args.mask is not None, bool(sides), args.ratio is not None, args.size is not None])
    if given != 1 or (args.mask is None and args.task != Task.EXTEND):
        wanted = "one of the sides (--left, ...), --ratio or --size" if args.task == Task.EXTEND else "--mask"
        raise ValueError(
            f"task {args.task} takes {wanted} and nothing else that says where (see: onereward edit --help)"
        )
    image = _read(args.image)
    if args.mask is not None:
        return picture_and_mask(image, _read(args.mask))
    if args.ratio is not None:
        return extend_canvas(image, Borders.to_ratio(image.size, args.ratio))
    if args.size is not None:
        return extend_canvas(image, Borders.to_size(image.size, args.size))
    return extend_canvas(image, Borders(**sides))


def _read(path: str) -> "Image.Image":
    from PIL import Image, UnidentifiedImageError

    from onereward.edit import upright

    try:
        with Image.open(path) as image:
            return upright(image, path)
    except (UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read {path}: {error}; give a whole PNG or JPEG file") from error


def _encoder(image: "Image.Image", suffix: str) -> "Callable[[Image.Image], bytes]":
    """How the edit of `image` becomes a file: its colour profile is kept, the rest of its metadata is not.

    Raises ValueError for a transparent image and a format without transparency.
    """
    file_format, options = _FORMATS[suffix]
    transparent = "A" in image.getbands()
    if file_format == "JPEG":
        if transparent and image.getchannel("A").getextrema() != (255, 255):
            raise ValueError("the image is transparent in places and JPEG cannot be: name a .png as --output")
        logger.warning("JPEG encodes every pixel anew: name a .png as --output to keep those outside the mask exact")

    def encode(edited: "Image.Image") -> bytes:
        if file_format == "JPEG" and transparent:
            edited = edited.convert(edited.mode[:-1])
        buffer = io.BytesIO()
        edited.save(buffer, file_format, icc_profile=image.info.get("icc_profile"), **options)
        return buffer.getvalue()

    return encode


def _pair(separator: str) -> Callable[[str], tuple[int, int]]:
    """A parser of two positive whole numbers such as 16:9 or 800x600."""

    def parse(text: str) -> tuple[int, int]:
        numbers = text.split(separator)
        if len(numbers) != 2 or not all(number.isdecimal() and int(number) for number in numbers):
            raise argparse.ArgumentTypeError(f"got {text!r}, expected two whole numbers such as 16{separator}9")
        return int(numbers[0]), int(numbers[1])

    return parse
