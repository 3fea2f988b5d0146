"""An edit, with its pictures in memory (EditRequest), as data (EditJob), and what makes an edited image again (Recipe).

Torch-free, so that a server can check what it is sent, and annotation can read it, without a model.
"""

import base64
import binascii
import hashlib
import io
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from PIL import Image

from onereward import __version__
from onereward.edit.canvas import Borders, extend_canvas
from onereward.edit.pictures import picture_and_mask, read_picture
from onereward.edit.regions import Fit
from onereward.models.contract import Contract
from onereward.store.files import write_atomically
from onereward.terms import Task, task_named

_SIDES = ("left", "right", "top", "bottom")


@dataclass(frozen=True, kw_only=True)
class EditRequest:
    """One edit to make; what is None is the editor's own (its contract), and `seed` is the stock pipeline's.

    Over `feather` pixels inside the mask's edge the edit fades in from the picture; 0 pastes it hard.
    """

    image: Image.Image
    mask: Image.Image
    prompt: str
    task: Task
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    true_cfg: float | None = None
    negative_prompt: str | None = None
    fit: Fit = Fit.CROP
    feather: int = 0


@dataclass(frozen=True, kw_only=True)
class EditJob:
    """One edit, its pictures named or held: `image` and `mask` are paths, or `data:` URLs with the file itself.

    An extend has no mask: it says how far, by sides in pixels, by `ratio` (16:9) or by `size` (800x600). `steps`,
    `guidance`, `true_cfg` and `negative_prompt` are the editor's own where they are None.
    Raises ValueError for what cannot be asked of any editor.
    """

    image: str = field(repr=False)
    task: Task
    mask: str | None = field(default=None, repr=False)
    prompt: str = ""
    left: int = 0
    right: int = 0
    top: int = 0
    bottom: int = 0
    ratio: str | None = None
    size: str | None = None
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    true_cfg: float | None = None
    negative_prompt: str | None = None
    fit: Fit = Fit.CROP
    feather: int = 0

    def __post_init__(self) -> None:
        sides = any(getattr(self, side) for side in _SIDES)
        given = sum([self.mask is not None, sides, self.ratio is not None, self.size is not None])
        if given == 0 and self.task is not Task.EXTEND:
            raise ValueError(f"task {self.task} got no mask: --mask FILE, in a folder NAME.mask.png beside NAME.png")
        if given != 1 or (self.mask is None and self.task is not Task.EXTEND):
            wanted = "one of sides (left, ...), ratio or size" if self.task is Task.EXTEND else "a mask"
            raise ValueError(f"task {self.task} takes {wanted} and nothing else that says where")
        for name, (least, most) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"got {name} {value}, expected {least} to {most}")
        for name, separator in {"ratio": ":", "size": "x"}.items():
            if (text := getattr(self, name)) is not None:
                pair_of(text, separator)
        if self.task in (Task.FILL, Task.TEXT) and not self.prompt:
            raise ValueError(f"task {self.task} got an empty prompt: say what the masked region should show")

    @staticmethod
    def of(values: Mapping[str, Any]) -> "EditJob":
        """A job from a row or a JSON object, empty cells left out; ValueError for unknown fields and wrong types."""
        given = {name: value for name, value in values.items() if value is not None}
        unknown = sorted(set(given) - set(_READERS))
        if unknown:
            raise ValueError(f"unknown field {', '.join(unknown)}; the fields are {', '.join(_READERS)}")
        missing = [name for name in ("image", "task") if name not in given]
        if missing:
            raise ValueError(f"the field {' and '.join(missing)} is missing: every job has an image and a task")
        return EditJob(**{name: _READERS[name](name, value) for name, value in given.items()})

    def to_values(self) -> dict[str, Any]:
        """What `of` reads: the fields that are not at their defaults."""
        defaults = {one.name: one.default for one in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != defaults[name]}

    def from_folder(self, folder: Path) -> "EditJob":
        """The job with its relative paths counted from `folder`."""
        return self._moved(lambda path: str(folder / path))

    def request(self) -> EditRequest:
        """The pictures read and the edit ready to be made; ValueError or FileNotFoundError where one cannot be read."""
        picture = _read_source(self.image, "the image")
        if self.mask is not None:
            image, mask = picture_and_mask(picture, _read_source(self.mask, "the mask"))
        else:
            image, mask = extend_canvas(picture, self.borders(picture.size))
        return EditRequest(
            image=image,
            mask=mask,
            prompt=self.prompt,
            task=self.task,
            seed=self.seed,
            steps=self.steps,
            guidance=self.guidance,
            true_cfg=self.true_cfg,
            negative_prompt=self.negative_prompt,
            fit=self.fit,
            feather=self.feather,
        )

    def borders(self, size: tuple[int, int]) -> Borders:
        """What an extend adds to an image of `size` (width, height); ValueError if that is smaller than the image."""
        if self.ratio is not None:
            return Borders.to_ratio(size, pair_of(self.ratio, ":"))
        if self.size is not None:
            return Borders.to_size(size, pair_of(self.size, "x"))
        return Borders(left=self.left, right=self.right, top=self.top, bottom=self.bottom)

    def with_settings_of(self, contract: Contract) -> "EditJob":
        """The job with every setting written out, so that it stays the same edit when the contract changes."""
        return replace(
            self,
            prompt=contract.prompt_for(self.task, self.prompt),
            steps=contract.steps if self.steps is None else self.steps,
            guidance=contract.guidance if self.guidance is None else self.guidance,
            true_cfg=contract.true_cfg if self.true_cfg is None else self.true_cfg,
            negative_prompt=contract.negative_prompt if self.negative_prompt is None else self.negative_prompt,
        )

    def relative_to(self, folder: Path) -> "EditJob":
        """The job with its paths, which count from the working folder, written as seen from `folder`."""
        return self._moved(lambda path: os.path.relpath(path, folder))

    def _moved(self, move: Callable[[str], str]) -> "EditJob":
        image, mask = (
            source if source is None or source.startswith("data:") else move(source)
            for source in (self.image, self.mask)
        )
        assert image is not None
        return replace(self, image=image, mask=mask)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What makes an edited image again: the editor, the job with all its settings, and the digest of what came out.

    What comes before the job is as `onereward edit` takes it; `pixels` is `digest_of` the edited image.
    """

    editor: str
    base: str | None = None
    lora: str | None = None
    dtype: str | None = None
    quantize: str | None = None
    cache: float | None = None
    job: EditJob
    pixels: str | None = None
    onereward: str = __version__

    @staticmethod
    def read(file: Path) -> "Recipe":
        """The recipe in a JSON file, its paths made to count from here; ValueError if there is none in it."""
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return Recipe(**{**values, "job": EditJob.of(values["job"]).from_folder(file.parent)})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{file} is no recipe of an edit: {error}; give the .json that lies beside one") from error

    def to_json(self) -> str:
        """The recipe as its file holds it."""
        return json.dumps({**asdict(self), "job": self.job.to_values()}, indent=1, ensure_ascii=False) + "\n"

    def write_beside(self, image: Path) -> Path:
        """Write IMAGE.json, in which the job's paths are relative to it, and return its path."""
        file = image.with_suffix(".json")
        write_atomically(file, replace(self, job=self.job.relative_to(file.parent)).to_json().encode())
        return file


def digest_of(image: Image.Image) -> str:
    """SHA-256 of an image's mode, size and pixels: the same for each lossless file of it."""
    head = f"{image.mode} {image.width}x{image.height} ".encode()
    return hashlib.sha256(head + image.tobytes()).hexdigest()


def data_url(file: bytes) -> str:
    """An image file as text that an EditJob takes in the place of its path."""
    return f"data:application/octet-stream;base64,{base64.b64encode(file).decode()}"


def pair_of(text: str, separator: str) -> tuple[int, int]:
    """Two positive whole numbers such as 16:9 or 800x600; raises ValueError for another text."""
    numbers = text.split(separator)
    if len(numbers) != 2 or not all(number.isdecimal() and 0 < int(number) < 10**6 for number in numbers):
        raise ValueError(f"got {text!r}, expected two whole numbers such as 16{separator}9")
    return int(numbers[0]), int(numbers[1])


def _read_source(source: str, name: str) -> Image.Image:
    """The picture at a path or in a data: URL."""
    if not source.startswith("data:"):
        return read_picture(Path(source), source)
    head, _, body = source.partition(",")
    if not head.endswith(";base64"):
        raise ValueError(f"{name} is a data: URL of another kind: expected data:image/png;base64,...")
    try:
        return read_picture(io.BytesIO(base64.b64decode(body, validate=True)), name)
    except binascii.Error as error:
        raise ValueError(f"{name} is no base64: {error}") from error


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise ValueError(f"got {name} {value!r}, expected text")


def _picture(name: str, value: object) -> str:
    """A path or data: URL; a cell of bytes, or of bytes and path as `datasets` keeps images, becomes a data: URL."""
    if isinstance(value, Mapping):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    return data_url(value) if isinstance(value, bytes) else _text(name, value)


def _whole(name: str, value: object) -> int:
    number = _number(name, value)
    if number != int(number):
        raise ValueError(f"got {name} {value!r}, expected a whole number")
    return int(value) if isinstance(value, int | str) else int(number)


def _number(name: str, value: object) -> float:
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str) or not math.isfinite(float(value)):
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"got {name} {value!r}, expected a number") from None


def _task(name: str, value: object) -> Task:
    return task_named(_text(name, value))


def _fit(name: str, value: object) -> Fit:
    if value not in list(Fit):
        raise ValueError(f"got {name} {value!r}, expected one of {', '.join(Fit)}")
    return Fit(str(value))


_RANGES: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**63 - 1),
    "steps": (1, 1000),
    "guidance": (0, 1000),
    "true_cfg": (1, 1000),
    "feather": (0, 10_000),
    **dict.fromkeys(_SIDES, (0, 100_000)),
}

_READERS: Mapping[str, Callable[[str, object], Any]] = {
    "image": _picture,
    "task": _task,
    "mask": _picture,
    "prompt": _text,
    **dict.fromkeys(_SIDES, _whole),
    "ratio": _text,
    "size": _text,
    "seed": _whole,
    "steps": _whole,
    "guidance": _number,
    "true_cfg": _number,
    "negative_prompt": _text,
    "fit": _fit,
    "feather": _whole,
}
