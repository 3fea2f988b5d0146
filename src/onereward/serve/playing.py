"""What the playground's buttons do, without the page: pictures and strokes in, jobs and things to show out.

Torch-free; the queue's editor and the judge bring it.
"""

import io
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from onereward.edit.jobs import EditJob, Recipe, data_url
from onereward.edit.pictures import editable, encode_picture, read_picture, to_rgb
from onereward.serve.queue import EditQueue, Result, State, UnknownEditError
from onereward.serve.uploads import check_pictures
from onereward.terms import Dimension, Task, dimensions_of

if TYPE_CHECKING:
    from onereward.edit.judge import ImageJudge

KEPT = 12
"""Results that a session keeps."""
_PAINTED_SIDE = 2048
"""The longer side that a browser can still paint on; strokes on a larger picture are made larger with it."""
_PAINTED_FROM = 64
"""The alpha from which a stroke counts: more than the soft edge that an eraser leaves."""
_PREVIEW_SIDE = 480
STROKE = (230, 40, 60, 153)
"""The brush's colour: what lies under a stroke can still be seen."""
_SIDES = ("left", "right", "top", "bottom")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An uploaded picture: its pixels, upright, as a PNG file in a data: URL, and a copy to paint on."""

    url: str = field(repr=False)
    size: tuple[int, int]
    shown: Image.Image = field(repr=False)

    @staticmethod
    def read(file: Path, most_pixels: int) -> "Picture":
        """The picture in an uploaded file; ValueError if it cannot be edited or has more than `most_pixels`."""
        uploaded = data_url(file.read_bytes())
        check_pictures(EditJob(image=uploaded, task=Task.EXTEND, right=1), most_pixels)
        picture = editable(read_picture(file, "the picture"))
        shown = to_rgb(picture)
        shown.thumbnail((_PAINTED_SIDE, _PAINTED_SIDE))
        return Picture(url=data_url(encode_picture(picture, ".png", picture.mode)), size=picture.size, shown=shown)

    def mask(self, layers: Sequence[Image.Image]) -> str:
        """The mask, white where a layer of the painter has a stroke, as a PNG file in a data: URL.

        Raises ValueError if there is no stroke.
        """
        mask = Image.new("L", self.size)
        for layer in layers:
            alpha = layer.convert("RGBA").getchannel("A").resize(self.size, Image.Resampling.NEAREST)
            mask.paste(255, mask=alpha.point([255 if level >= _PAINTED_FROM else 0 for level in range(256)]))
        if mask.getbbox() is None:
            raise ValueError("no mask is painted: brush over what should be repainted")
        return data_url(encode_picture(mask, ".png", "L"))

    def extended(self, job: EditJob) -> Image.Image:
        """A small view of the canvas that an extend makes, what is new in red."""
        borders = job.borders(self.size)
        width = self.size[0] + borders.left + borders.right
        height = self.size[1] + borders.top + borders.bottom
        scale = _PREVIEW_SIDE / max(width, height)
        view = Image.new("RGB", (max(1, round(width * scale)), max(1, round(height * scale))), "#f3aab3")
        inner = self.shown.resize([max(1, round(length * scale)) for length in self.size])
        view.paste(inner, (round(borders.left * scale), round(borders.top * scale)))
        return view


def job_of(picture: Picture | None, layers: Sequence[Image.Image], form: Mapping[str, Any]) -> EditJob:
    """The job that a filled form asks for; raises ValueError, saying what to do, for one that asks for nothing.

    `form` has the fields of an EditJob as the page holds them: what is blank is left to the editor.
    """
    if picture is None:
        raise ValueError("there is no picture yet: drop one on the page first")
    given = {name: value for name, value in form.items() if value not in (None, "")}
    where = {name: given.pop(name) for name in (*_SIDES, "ratio") if name in given}
    if given["task"] == Task.REMOVE:
        given.pop("prompt", None)
    if given["task"] != Task.EXTEND:
        where = {"mask": picture.mask(layers)}
    elif "ratio" in where:
        where = {"ratio": where["ratio"]}
    return EditJob.of({**given, **where, "image": picture.url})


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One result of a session: the job as it was asked, what each editor made, and how the judge compares it.

    `odds` are P(the edit is better than what it was compared with), by dimension; `compared` says with what.
    """

    picture: Picture
    job: EditJob
    result: Result
    base: Result | None = None
    odds: Mapping[Dimension, float] = field(default_factory=dict)
    compared: str | None = None

    def before(self) -> bytes:
        """A PNG file of the other side of the slider: the base editor's edit, else the canvas before the edit."""
        if self.base is not None:
            return self.base.png
        canvas = self.job.request().image
        return encode_picture(canvas, ".png", canvas.mode)

    def painted(self) -> dict[str, Any]:
        """The picture with the job's mask as strokes, as gradio's ImageEditor holds it; no strokes for an extend."""
        picture = self.picture.shown
        layer = Image.new("RGBA", picture.size)
        if self.job.mask is not None:
            mask = self.job.request().mask.resize(picture.size, Image.Resampling.NEAREST)
            layer.paste(STROKE, mask=mask)
        composite = Image.alpha_composite(picture.convert("RGBA"), layer)
        return {"background": picture, "layers": [layer], "composite": composite}


def judged(shown: Shown, earlier: Sequence[Shown], judge: "ImageJudge | None", lock: threading.Lock) -> Shown:
    """The result with the judge's odds against the base editor's, else against the last edit of the same question.

    Without a judge, or with nothing to compare, there are none. One thread at a time enters the judge.
    """
    same = next((other.result for other in earlier if _question(other.job) == _question(shown.job)), None)
    other, name = (shown.base, "the base editor's") if shown.base is not None else (same, "the previous one")
    if judge is None or other is None:
        return shown
    first, second = (read_picture(io.BytesIO(result.png), "the edit") for result in (shown.result, other))
    job = shown.job
    with lock:
        odds = {
            dimension: judge.prob_better(first, second, job.task, dimension, job.prompt)
            for dimension in dimensions_of(job.task, job.prompt)
        }
    return replace(shown, odds=odds, compared=name)


def _question(job: EditJob) -> tuple[object, ...]:
    """What two edits have in common that can be compared."""
    return job.image, job.mask, job.task, job.prompt, job.ratio, *(getattr(job, side) for side in _SIDES)


def taken(queue: EditQueue, edit_id: str) -> Result | None:
    """What an edit gave that was followed to its end; None if it was stopped, ValueError, saying why, if it failed."""
    try:
        status = queue.status(edit_id)
        if status.state is State.FAILED:
            raise ValueError(status.message)
        return queue.result(edit_id) if status.state is State.DONE else None
    except UnknownEditError:
        return None


def drop_older(folder: Path, seconds: float) -> None:
    """Delete the folder's files that were last written longer ago."""
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a neighbour deletes too
            if file.is_file() and time.time() - file.stat().st_mtime > seconds:
                file.unlink()


def in_short(recipe: Recipe) -> str:
    """The recipe to read: its pictures are only named, with their size."""
    values = json.loads(recipe.to_json())
    for name in ("image", "mask"):
        if name in values["job"]:
            values["job"][name] = re.sub(
                r"base64,.*", f"… ({len(values['job'][name]):,} characters)", values["job"][name]
            )
    return json.dumps(values, indent=1, ensure_ascii=False)


def odds_table(shown: Shown) -> str:
    """What the judge says of a result as HTML, one row a dimension; below one half its bar is of another colour."""
    rows = "".join(
        f"<tr><th scope='row'>{dimension.replace('_', ' ')}</th>"
        f"<td><meter min='0' low='.5' optimum='1' max='1' value='{odds:.4f}'></meter></td><td>{odds:.1%}</td></tr>"
        for dimension, odds in shown.odds.items()
    )
    return f"<table><caption>The judge: P(this edit is better than {shown.compared})</caption>{rows}</table>"
