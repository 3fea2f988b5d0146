"""The README's pictures: `python -m docs.images.make`.

scenes.png    held-out toy scenes with their holes, and the shipped base editor's edits
photos.png    real photographs: a crop of 400x300, and a JPEG that lies on its side; mask, edit
"""

import io
from pathlib import Path

import numpy
from PIL import Image, ImageDraw, ImageOps
from skimage import data

from onereward.edit.editor import ImageEditor, load_editor
from onereward.edit.jobs import EditRequest
from onereward.terms import Task
from onereward.toy.scenes import Split, make_scene

HERE = Path(__file__).parent
CROP = (60, 0, 460, 300)  # of the astronaut: 400x300
GAP = 6


def main() -> None:
    editor = load_editor("toy")
    scenes(editor).save(HERE / "scenes.png")
    photos(editor).save(HERE / "photos.png")


def scenes(editor: ImageEditor, count: int = 24, across: int = 8) -> Image.Image:
    """The first held-out scenes of the figures' range, none left out: each hole above its edit, twice the size."""
    shown = [make_scene(Split.TEST, 50_000 + index) for index in range(count)]
    holes = [Image.fromarray(scene.hole_HW3) for scene in shown]
    edited = editor.edit_batch(
        [
            EditRequest(
                image=Image.fromarray(scene.source_HW3),
                mask=Image.fromarray(scene.mask_HW.astype(numpy.uint8) * 255),
                prompt=scene.triplet().prompt,
                task=scene.task,
                seed=scene.index,
            )
            for scene in shown
        ]
    )
    rows = []
    for start in range(0, count, across):
        rows += [holes[start : start + across], edited[start : start + across]]
    return sheet([[image.resize((128, 128), Image.Resampling.NEAREST) for image in row] for row in rows])


def photos(editor: ImageEditor) -> Image.Image:
    """Source with the mask outlined, and the edit; outside the mask not one pixel may differ."""
    astronaut = Image.fromarray(data.astronaut()).crop(CROP)
    sideways = ImageOps.exif_transpose(Image.open(io.BytesIO(_sideways_jpeg(Image.fromarray(data.coffee())))))
    rows = [
        _row(editor, astronaut, (250, 40, 350, 140), "a red star", Task.FILL),
        _row(editor, astronaut, (20, 150, 110, 240), "a blue circle", Task.FILL),
        _row(editor, sideways, (20, 20, 120, 120), "a green square", Task.FILL),
    ]
    return sheet(rows)


def _sideways_jpeg(image: Image.Image) -> bytes:
    """As a telephone stores it: pixels turned, and an EXIF tag that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = io.BytesIO()
    small = image.resize((400, 300), Image.Resampling.LANCZOS)
    small.transpose(Image.Transpose.ROTATE_90).save(stored, "JPEG", exif=exif, quality=95)
    return stored.getvalue()


def _row(
    editor: ImageEditor, image: Image.Image, box: tuple[int, int, int, int], prompt: str, task: Task
) -> list[Image.Image]:
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    edited = editor.edit(image, mask, prompt, task, seed=1)
    outside = numpy.asarray(mask) == 0
    assert edited.size == image.size
    assert (numpy.asarray(edited)[outside] == numpy.asarray(image)[outside]).all()
    outlined = image.copy()
    ImageDraw.Draw(outlined).ellipse(box, outline="white", width=2)
    return [outlined, edited]


def sheet(rows: list[list[Image.Image]]) -> Image.Image:
    """Images of one size in rows, on white."""
    width, height = rows[0][0].size
    across = max(map(len, rows))
    page = Image.new("RGB", (across * (width + GAP) - GAP, len(rows) * (height + GAP) - GAP), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            page.paste(image, (x * (width + GAP), y * (height + GAP)))
    return page


if __name__ == "__main__":
    main()
