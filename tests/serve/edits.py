"""Edits to send, and an editor whose every sampling step waits for the test."""

import io
import threading
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image

from onereward.edit.editor import ImageEditor
from onereward.edit.jobs import EditRequest, data_url
from tests.pictures import hole, noise

SIZE = (20, 12)


def file_of(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


PHOTO, MASK = file_of(noise(*SIZE)), file_of(hole(SIZE, (3, 4, 9, 10)))
FILL: dict[str, Any] = {"image": data_url(PHOTO), "mask": data_url(MASK), "task": "fill", "prompt": "a red star"}
FIELDS = {"task": "fill", "prompt": "a red star"}
FILES = {"image": PHOTO, "mask": MASK}


class Gated:
    """A real editor that makes a step only when the test lets it, and fails if it is told to."""

    def __init__(self, editor: ImageEditor) -> None:
        self.model = editor.model
        self.editor = editor
        self.steps = threading.Semaphore(0)
        self.made = 0
        self.fails: Exception | None = None

    def edit_batch(self, edits: Sequence[EditRequest], *, on_step: Callable[[], object]) -> list[Image.Image]:
        def gated() -> None:
            assert self.steps.acquire(timeout=20)
            self.made += 1
            on_step()

        if self.fails is not None:
            raise self.fails
        return self.editor.edit_batch(edits, on_step=gated)

    def let(self, steps: int) -> None:
        self.steps.release(steps)
