"""The playground: a page on which a picture is painted over, edited, compared and taken along with its recipe (gradio).

It asks the queues that the API asks too, so that an editor is entered by one thread only.
"""

import asyncio
import os
import random
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio
from fastapi import FastAPI
from gradio.processing_utils import save_bytes_to_cache

from onereward.serve.layout import HINTS, LOOK, SIDES, Page, lay_out
from onereward.serve.playing import KEPT, Picture, Shown, drop_older, in_short, job_of, judged, odds_table, taken
from onereward.serve.queue import EditQueue, QueueFullError, UnknownEditError
from onereward.serve.shell import is_token
from onereward.terms import Task

if TYPE_CHECKING:
    from onereward.edit.judge import ImageJudge

_DAY = 24 * 60 * 60
_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "concurrency_limit": None}
_Updates = dict[Any, Any]


def mount_playground(
    app: FastAPI,
    queue: EditQueue,
    *,
    base: EditQueue | None = None,
    judge: "ImageJudge | None" = None,
    token: str | None = None,
) -> None:
    """Put the playground at `/` of the API's app; with a token, people log in with any name and it as the password."""
    auth: Callable[[str, str], bool] | None = None if token is None else lambda _name, given: is_token(given, token)
    gradio.mount_gradio_app(
        app,
        playground(queue, base=base, judge=judge),
        path="/",
        auth=auth,
        auth_message="Any name will do; the password is the server's token.",
        max_file_size=queue.limits.upload,
        **LOOK,
    )


def playground(queue: EditQueue, *, base: EditQueue | None = None, judge: "ImageJudge | None" = None) -> gradio.Blocks:
    """The page for one editor; `base` is another to see it side by side with, which `judge` compares it to.

    Without a base the judge compares a result with the one before it, if both answer the same question.
    `launch` it with `LOOK`, or mount it.
    """
    _folder()
    with gradio.Blocks(title="OneReward", analytics_enabled=False) as blocks:
        _Playground(lay_out(queue.contract), queue, base, judge).connect()
    page: gradio.Blocks = blocks
    return page


class _Playground:
    """What happens on the page; one for all visitors, whose own things are in the page's states."""

    def __init__(self, page: Page, queue: EditQueue, base: EditQueue | None, judge: "ImageJudge | None") -> None:
        self._page = page
        self._canvas, self._wishes, self._results = page.canvas, page.wishes, page.results
        self._form = page.wishes.form
        self._queues = [queue] if base is None else [queue, base]
        self._judge = judge
        self._judging = threading.Lock()

    def connect(self) -> None:
        """Tie the page's events to what they do."""
        picture, fields, seed = self._page.picture, [*self._form.values()], self._form["seed"]
        opened = [picture, *vars(self._canvas).values()]
        self._canvas.upload.upload(self._open, [self._canvas.upload, *fields], opened, **_QUIET)
        self._canvas.another.click(self._close, None, opened, **_QUIET)
        needed = [self._form["prompt"], self._wishes.sides, self._canvas.painter, self._canvas.preview]
        self._form["task"].change(self._choose, [picture, *fields], needed, **_QUIET)
        sides = [self._form[name] for name in ("ratio", *SIDES)]
        gradio.on(
            [one.change for one in sides],
            self._widen,
            [picture, *fields],
            [self._canvas.preview, *sides],
            trigger_mode="always_last",
            **_QUIET,
        )
        self._wishes.next_seed.click(lambda now: int(now or 0) + 1, seed, seed, **_QUIET)
        self._wishes.dice.click(lambda: random.randrange(2**31), None, seed, **_QUIET)
        results = [*vars(self._results).values()]
        gradio.on(
            [self._wishes.run.click, self._form["prompt"].submit],
            self._run,
            [picture, self._canvas.painter, self._page.history, *fields],
            [self._page.history, self._page.running, *results],
            **{**_QUIET, "show_progress": "full"},
            show_progress_on=self._results.slider,
            scroll_to_output=True,
        )
        self._wishes.stop.click(self._stop, self._page.running, None, **_QUIET)
        self._results.gallery.select(self._again, self._page.history, [*opened, *fields, *results], **_QUIET)

    def _open(self, file: str | None, *form: Any) -> _Updates:
        try:
            picture = Picture.read(Path(file or ""), self._queues[0].limits.pixels)
        except ValueError as error:
            gradio.Warning(str(error))
            return {self._canvas.upload: None}
        return self._opened(picture, picture.shown, form)

    def _opened(self, picture: Picture, painted: Any, form: Sequence[Any]) -> _Updates:
        extends = self._values(form)["task"] == Task.EXTEND
        return {
            self._page.picture: picture,
            self._canvas.upload: gradio.update(value=None, visible=False),
            self._canvas.painter: gradio.update(value=painted, visible="hidden" if extends else True),
            self._canvas.preview: gradio.update(value=self._view(picture, form), visible=extends),
            self._canvas.another: gradio.update(visible=True),
        }

    def _close(self) -> _Updates:
        hidden = gradio.update(value=None, visible=False)
        return {
            self._page.picture: None,
            self._canvas.upload: gradio.update(value=None, visible=True),
            self._canvas.painter: hidden,
            self._canvas.preview: hidden,
            self._canvas.another: gradio.update(visible=False),
        }

    def _choose(self, picture: Picture | None, *form: Any) -> _Updates:
        """Show what the chosen task needs; strokes stay while the painter is hidden."""
        task = Task(self._values(form)["task"])
        extends, (label, example) = task is Task.EXTEND, HINTS[task]
        return {
            self._form["prompt"]: gradio.update(label=label, placeholder=example, visible=task is not Task.REMOVE),
            self._wishes.sides: gradio.update(visible=extends),
            self._canvas.painter: gradio.update(visible=picture is not None and (not extends or "hidden")),
            self._canvas.preview: gradio.update(
                value=self._view(picture, form), visible=extends and picture is not None
            ),
        }

    def _widen(self, picture: Picture | None, *form: Any) -> _Updates:
        """Show the canvas asked for; a ratio leaves nothing to say to the sides."""
        by_sides = gradio.update(interactive=not self._values(form)["ratio"])
        return {self._canvas.preview: self._view(picture, form)} | {self._form[side]: by_sides for side in SIDES}

    def _view(self, picture: Picture | None, form: Sequence[Any]) -> Any:
        values = self._values(form)
        if picture is None or values["task"] != Task.EXTEND:
            return None
        try:
            return picture.extended(job_of(picture, [], values))
        except ValueError:  # nothing to extend yet
            return picture.shown

    async def _run(
        self,
        picture: Picture | None,
        painted: dict[str, Any] | None,
        history: list[Shown] | None,
        *form: Any,
        progress: gradio.Progress = gradio.Progress(),
    ) -> AsyncIterator[_Updates]:
        asked: list[tuple[EditQueue, str]] = []
        try:
            await asyncio.to_thread(drop_older, Path(_folder().name), _DAY)
            layers = painted["layers"] if painted else []
            job = await asyncio.to_thread(job_of, picture, layers, self._values(form))
            for queue in self._queues:
                asked.append((queue, (await asyncio.to_thread(queue.submit, job)).id))
            yield {self._page.running: [edit_id for _, edit_id in asked]}
            for queue, edit_id in asked:
                async for status in queue.follow(edit_id):
                    where = f"{status.place} in line" if status.place else "painting"
                    progress((status.step, status.steps), desc=where)
            made = [taken(queue, edit_id) for queue, edit_id in asked]
            results = [result for result in made if result is not None]
            if picture is None or len(results) < len(asked):
                gradio.Info("Stopped.")
                return
            shown = Shown(picture=picture, job=job, result=results[0], base=results[1] if results[1:] else None)
            shown = await asyncio.to_thread(judged, shown, history or [], self._judge, self._judging)
            kept = [shown, *(history or [])][:KEPT]
            thumbnails = [(_edited_file(one), f"seed {one.job.seed}") for one in kept]
            yield {self._page.history: kept, self._results.gallery: thumbnails, **self._show(shown)}
        except (ValueError, QueueFullError) as error:
            gradio.Warning(str(error))
        finally:
            for queue, edit_id in asked:
                with suppress(UnknownEditError):
                    queue.forget(edit_id)

    def _stop(self, running: list[str] | None) -> None:
        for queue, edit_id in zip(self._queues, running or [], strict=False):
            with suppress(UnknownEditError):
                queue.cancel(edit_id)

    def _again(self, history: list[Shown], at: gradio.SelectData) -> _Updates:
        """All of an earlier result back on the page: picture, mask, what was asked, what came of it."""
        shown = history[at.index]
        form = {name: getattr(shown.job, name) for name in self._form} | {"ratio": shown.job.ratio or ""}
        fields = {self._form[name]: value for name, value in form.items()}
        return fields | self._opened(shown.picture, shown.painted(), [*form.values()]) | self._show(shown)

    def _show(self, shown: Shown) -> _Updates:
        result, base, seed = shown.result, shown.base, shown.job.seed
        left = "before" if base is None else f"base ({base.recipe.editor})"
        before, edited = _file("before.png", shown.before()), _edited_file(shown)
        return {
            self._results.slider: gradio.update(
                value=(before, edited), label=f"Left: {left}, right: {result.recipe.editor}, seed {seed}"
            ),
            self._results.found: gradio.update(visible=True),
            self._results.odds: gradio.update(value=odds_table(shown), visible=bool(shown.odds)),
            self._results.edited_file: edited,
            self._results.recipe_file: _file(f"recipe-{seed}.json", result.recipe.to_json().encode()),
            self._results.recipe: in_short(result.recipe),
        }

    def _values(self, form: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(self._form, form, strict=True))


def _edited_file(shown: Shown) -> str:
    return _file(f"edited-{shown.job.seed}.png", shown.result.png)


def _file(name: str, content: bytes) -> str:
    """A file where gradio serves it from."""
    return str(save_bytes_to_cache(content, name, _folder().name))


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Where gradio keeps what is sent and made: a folder that only this process's user can read, gone at its end.

    Its own is open to all users of the machine, and it forgets to delete the files of download buttons.
    """
    folder = tempfile.TemporaryDirectory(prefix="onereward-", dir=os.environ.get("GRADIO_TEMP_DIR"))
    os.environ["GRADIO_TEMP_DIR"] = folder.name
    return folder
