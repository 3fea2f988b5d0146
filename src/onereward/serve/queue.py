"""One worker that owns the editor, and a bounded line of edits before it.

Nothing is written to disk: finished edits stay in memory within the limits, the oldest are dropped first. Every method
may be called from any thread. Torch-free; the editor brings it.
"""

import asyncio
import io
import logging
import secrets
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import TYPE_CHECKING

from onereward.edit.jobs import EditJob, Recipe, digest_of
from onereward.edit.pictures import encode_picture, mode_in_file, read_picture
from onereward.models.contract import Contract
from onereward.serve.limits import Limits
from onereward.serve.uploads import check_pictures

if TYPE_CHECKING:
    from onereward.edit.editor import ImageEditor

logger = logging.getLogger(__name__)

_DECODED_AT_ONCE = 2
_LOOK_EVERY = 0.05  # seconds between two looks of `follow`
_PATIENCE = 30.0  # seconds that closing waits for the running step


class State(StrEnum):
    """Where an edit stands; the last three are final."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Status:
    """An edit at one moment: `place` in the line from 1 while it waits, sampling steps made, why it failed."""

    id: str
    state: State
    place: int | None
    step: int
    steps: int
    message: str | None


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a finished edit gave: the image as a PNG file, and the recipe that makes it again."""

    png: bytes = field(repr=False)
    recipe: Recipe


class QueueFullError(Exception):
    """The line is as long as it may be; try again when an edit has been finished."""


class UnknownEditError(LookupError):
    """No edit has this id: it was never given, deleted, or dropped for newer ones."""


class NotDoneError(Exception):
    """The edit has no image (yet)."""


class _StoppedError(Exception):
    """Leaves the sampling of an edit that was cancelled."""


@dataclass(kw_only=True, eq=False)
class _Edit:
    """An edit on its way; changed under the queue's lock only."""

    id: str
    job: EditJob
    steps: int
    state: State = State.QUEUED
    step: int = 0
    message: str | None = None
    result: Result | None = None

    @property
    def held(self) -> int:
        """Bytes that it keeps in memory (its texts of base64 and the image made)."""
        return len(self.job.image) + len(self.job.mask or "") + (len(self.result.png) if self.result else 0)


class EditQueue:
    """Edits made one after the other by one editor; close it, or use it as a context, to end its worker.

    `recipe` makes the Recipe of a job and its `pixels`, such as `partial(Recipe, editor="toy")`.
    """

    def __init__(self, editor: "ImageEditor", *, recipe: Callable[..., Recipe], limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._editor = editor
        self._recipe = recipe
        self._edits: dict[str, _Edit] = {}
        self._waiting: deque[_Edit] = deque()
        self._finished: deque[_Edit] = deque()
        self._closing = False
        self._changed = threading.Condition()
        self._decoding = threading.Semaphore(_DECODED_AT_ONCE)
        self._worker = threading.Thread(target=self._work, name="editor", daemon=True)
        self._worker.start()

    @property
    def contract(self) -> Contract:
        """What the editor was made for."""
        return self._editor.model.contract

    def submit(self, job: EditJob) -> Status:
        """Put a job at the end of the line; blocks while its pictures are checked, so not for an event loop.

        Raises ValueError for pictures that cannot be edited or are too large, QueueFullError for a full line.
        """
        self._check_room()
        with self._decoding:
            check_pictures(job, self.limits.pixels)
        edit = _Edit(
            id=secrets.token_urlsafe(16),
            job=job,
            steps=self.contract.steps if job.steps is None else job.steps,
        )
        with self._changed:
            self._check_room()
            self._edits[edit.id] = edit
            self._waiting.append(edit)
            self._changed.notify_all()
            return self._status(edit)

    def status(self, edit_id: str) -> Status:
        """Where the edit stands; raises UnknownEditError."""
        with self._changed:
            return self._status(self._find(edit_id))

    async def follow(self, edit_id: str) -> AsyncIterator[Status]:
        """Its status now and after each change, up to the final one; raises UnknownEditError at the first look."""
        with self._changed:
            edit, last = self._find(edit_id), None
        while last is None or not (last.state.is_final or self._closing):
            with self._changed:
                status = self._status(edit)
            if status != last:
                last = status
                yield status
            else:
                await asyncio.sleep(_LOOK_EVERY)

    def result(self, edit_id: str) -> Result:
        """What a finished edit gave; raises UnknownEditError, and NotDoneError for one in another state."""
        with self._changed:
            edit = self._find(edit_id)
            if edit.result is None:
                raise NotDoneError(f"the edit is {edit.state} and has no image{': wait' * (not edit.state.is_final)}")
            return edit.result

    def image(self, edit_id: str, suffix: str = ".png") -> bytes:
        """A finished edit's image as a file of a format in `edit.pictures.FORMATS`; blocks while it is encoded.

        Raises what `result` does, and ValueError for an image that the format cannot hold.
        """
        png = self.result(edit_id).png
        if suffix == ".png":
            return png
        with self._decoding:
            edited = read_picture(io.BytesIO(png), "the image")
            return encode_picture(edited, suffix, mode_in_file(edited, suffix))

    def cancel(self, edit_id: str) -> Status:
        """End an edit that is not finished, a running one at its next sampling step; raises UnknownEditError."""
        with self._changed:
            edit = self._find(edit_id)
            if not edit.state.is_final:
                self._finish(edit, State.CANCELLED)
            return self._status(edit)

    def forget(self, edit_id: str) -> None:
        """Cancel the edit if it is not finished, and drop all that is known of it; raises UnknownEditError."""
        with self._changed:
            self.cancel(edit_id)
            self._finished.remove(self._edits.pop(edit_id))

    def hang_up(self) -> None:
        """Let every `follow` end; takes no lock, so that an event loop may call it."""
        self._closing = True

    def close(self) -> None:
        """Cancel what is not finished and end the worker."""
        self.hang_up()
        with self._changed:
            for edit in [*self._edits.values()]:
                if not edit.state.is_final:
                    self._finish(edit, State.CANCELLED)
            self._changed.notify_all()
        self._worker.join(_PATIENCE)

    def __enter__(self) -> "EditQueue":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def _check_room(self) -> None:
        with self._changed:
            if len(self._waiting) >= self.limits.waiting:
                raise QueueFullError(f"{len(self._waiting)} edits wait already, which is all that may: try again later")

    def _find(self, edit_id: str) -> _Edit:
        if edit_id not in self._edits:
            raise UnknownEditError("no edit has this id: it was deleted, dropped for newer ones, or never there")
        return self._edits[edit_id]

    def _status(self, edit: _Edit) -> Status:
        place = self._waiting.index(edit) + 1 if edit.state is State.QUEUED else None
        return Status(id=edit.id, state=edit.state, place=place, step=edit.step, steps=edit.steps, message=edit.message)

    def _finish(self, edit: _Edit, state: State, message: str | None = None, result: Result | None = None) -> None:
        """Make the edit final, unless it is (cancelled while its last step ran), and drop what is too much to keep."""
        with self._changed:
            if edit.state.is_final:
                return
            if edit.state is State.QUEUED:
                self._waiting.remove(edit)
            edit.state, edit.message, edit.result = state, message, result
            self._finished.append(edit)
            while len(self._finished) > 1 and self._keeps_too_much():
                del self._edits[self._finished.popleft().id]

    def _keeps_too_much(self) -> bool:
        held = sum(edit.held for edit in self._finished)
        return len(self._finished) > self.limits.kept or held > self.limits.kept_bytes

    def _work(self) -> None:
        while (edit := self._next()) is not None:
            try:
                result = self._make(edit)
            except _StoppedError:
                continue
            except ValueError as error:
                self._finish(edit, State.FAILED, message=str(error))
            except Exception as error:
                logger.exception("edit %s failed", edit.id)
                self._finish(edit, State.FAILED, message=for_strangers(error))
            else:
                self._finish(edit, State.DONE, result=result)

    def _next(self) -> _Edit | None:
        """The edit to make now; None when the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            if self._closing:
                return None
            edit = self._waiting.popleft()
            edit.state = State.RUNNING
            return edit

    def _make(self, edit: _Edit) -> Result:
        # Its pictures are decoded again here: a line of decoded ones would need many times the memory.
        [edited] = self._editor.edit_batch([edit.job.request()], on_step=lambda: self._advance(edit))
        job = edit.job.with_settings_of(self.contract)
        return Result(
            png=encode_picture(edited, ".png", edited.mode), recipe=self._recipe(job=job, pixels=digest_of(edited))
        )

    def _advance(self, edit: _Edit) -> None:
        with self._changed:
            if edit.state is State.CANCELLED:
                raise _StoppedError
            edit.step += 1


def for_strangers(error: Exception) -> str:
    """What a stranger is told of an error that nobody expected; the log has the rest."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "the server ran out of memory: send a smaller picture or try again later"
    return f"unexpected {type(error).__name__}: the server's log says more"
