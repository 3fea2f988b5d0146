"""The queue: one edit after the other, each on its way to see and to stop, and never more kept than allowed."""

import asyncio
import io
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onereward.edit.editor import ImageEditor, load_editor
from onereward.edit.jobs import EditJob, Recipe, data_url, digest_of
from onereward.serve.limits import Limits
from onereward.serve.queue import EditQueue, NotDoneError, QueueFullError, State, Status, UnknownEditError
from tests.pictures import noise
from tests.serve.edits import FILL, SIZE, Gated, file_of

Make = Callable[..., EditQueue]


@pytest.fixture(scope="module")
def editor(tiny_folder: Path) -> ImageEditor:
    return load_editor(str(tiny_folder))


@pytest.fixture
def gated(editor: ImageEditor) -> Gated:
    return Gated(editor)


@pytest.fixture
def make(gated: Gated) -> Iterator[Make]:
    made: list[EditQueue] = []

    def start(**limits: int) -> EditQueue:
        made.append(EditQueue(gated, recipe=partial(Recipe, editor="tiny"), limits=Limits(**limits)))  # type: ignore[arg-type]
        return made[-1]

    yield start
    gated.let(1000)
    for queue in made:
        queue.close()


def job(**change: Any) -> EditJob:
    return EditJob.of({**FILL, **change})


def until(queue: EditQueue, edit_id: str, state: State) -> Status:
    deadline = time.monotonic() + 20
    while (status := queue.status(edit_id)).state is not state:
        assert time.monotonic() < deadline, status
        time.sleep(0.005)
    return status


def test_edits_wait_in_line_and_are_made_as_the_editor_makes_them(
    make: Make, gated: Gated, editor: ImageEditor
) -> None:
    queue = make()
    first, second, third = (queue.submit(job(seed=seed, steps=2)).id for seed in range(3))
    assert len({first, second, third}) == 3 and all(len(edit_id) >= 20 for edit_id in (first, second, third))
    until(queue, first, State.RUNNING)
    assert [queue.status(edit_id).place for edit_id in (first, second, third)] == [None, 1, 2]
    with pytest.raises(NotDoneError, match="the edit is queued and has no image: wait"):
        queue.result(second)
    gated.let(6)
    for seed, edit_id in enumerate((first, second, third)):
        assert until(queue, edit_id, State.DONE).step == 2
        result = queue.result(edit_id)
        image = Image.open(io.BytesIO(result.png))
        expected = editor.edit_batch([job(seed=seed, steps=2).request()])[0]
        assert digest_of(image) == digest_of(expected) == result.recipe.pixels
        assert result.recipe.job == job(seed=seed, steps=2).with_settings_of(queue.contract)


def test_a_cancelled_edit_stops_at_its_next_step_and_the_next_one_runs(make: Make, gated: Gated) -> None:
    queue = make()
    running, waiting, last = (queue.submit(job(steps=5)).id for _ in range(3))
    gated.let(2)
    while queue.status(running).step < 2:
        time.sleep(0.005)
    assert queue.cancel(running).state is State.CANCELLED
    assert queue.cancel(waiting) == queue.status(waiting) and queue.status(waiting).state is State.CANCELLED
    assert queue.status(last).place == 1
    gated.let(1)
    until(queue, last, State.RUNNING)
    assert gated.made == 3
    gated.let(5)
    until(queue, last, State.DONE)
    assert gated.made == 8
    assert queue.cancel(last).state is State.DONE
    with pytest.raises(NotDoneError, match=r"the edit is cancelled and has no image$"):
        queue.result(running)


def test_a_forgotten_edit_is_unknown_whatever_it_was_doing(make: Make, gated: Gated) -> None:
    queue = make()
    ids = [queue.submit(job(steps=1)).id for _ in range(3)]
    gated.let(1)
    until(queue, ids[0], State.DONE)
    until(queue, ids[1], State.RUNNING)
    for edit_id in ids:
        queue.forget(edit_id)
        for ask in (queue.status, queue.result, queue.cancel, queue.forget, queue.image):
            with pytest.raises(UnknownEditError):
                ask(edit_id)
    gated.let(1)
    gated.let(1)
    until(queue, queue.submit(job(steps=1)).id, State.DONE)


def test_a_full_line_takes_no_more(make: Make, gated: Gated) -> None:
    queue = make(waiting=2)
    until(queue, queue.submit(job()).id, State.RUNNING)
    queue.submit(job())
    second = queue.submit(job()).id
    with pytest.raises(QueueFullError, match="2 edits wait already"):
        queue.submit(job())
    queue.cancel(second)
    queue.submit(job())


def test_the_oldest_results_are_dropped_beyond_a_number(make: Make, gated: Gated) -> None:
    queue = make(kept=2)
    gated.let(100)
    ids = []
    for seed in range(4):
        ids.append(queue.submit(job(seed=seed)).id)
        until(queue, ids[-1], State.DONE)
    for edit_id in ids[:2]:
        with pytest.raises(UnknownEditError, match="dropped for newer ones"):
            queue.status(edit_id)
    assert all(queue.result(edit_id).png for edit_id in ids[2:])


def test_the_oldest_results_are_dropped_beyond_a_size_and_the_last_stays(make: Make, gated: Gated) -> None:
    gated.let(100)
    held = len(FILL["image"]) + len(FILL["mask"])
    queue = make(kept_bytes=3 * held)
    ids = []
    for seed in range(4):
        ids.append(queue.submit(job(seed=seed)).id)
        until(queue, ids[-1], State.DONE)
    known = [edit_id for edit_id in ids if _knows(queue, edit_id)]
    png = len(queue.result(ids[-1]).png)
    assert known == ids[-max(1, 3 * held // (held + png)) :]
    tight = make(kept_bytes=1)
    edit_id = tight.submit(job()).id
    until(tight, edit_id, State.DONE)
    assert tight.result(edit_id).png


def _knows(queue: EditQueue, edit_id: str) -> bool:
    try:
        queue.status(edit_id)
    except UnknownEditError:
        return False
    return True


@pytest.mark.parametrize(
    ("error", "message", "logged"),
    [
        (ValueError("the sky is too blue: use another"), "the sky is too blue: use another", False),
        (RuntimeError("secret detail"), "unexpected RuntimeError: the server's log says more", True),
        (MemoryError(), "the server ran out of memory: send a smaller picture or try again later", True),
    ],
)
def test_a_failure_is_told_in_a_sentence_and_the_queue_goes_on(
    make: Make, gated: Gated, caplog: pytest.LogCaptureFixture, error: Exception, message: str, logged: bool
) -> None:
    queue = make()
    gated.fails = error
    edit_id = queue.submit(job()).id
    with caplog.at_level(logging.ERROR):
        assert until(queue, edit_id, State.FAILED).message == message
    assert ("Traceback" in caplog.text) is logged
    gated.fails = None
    gated.let(100)
    until(queue, queue.submit(job()).id, State.DONE)


def test_what_cannot_be_edited_is_refused_before_it_waits(make: Make) -> None:
    queue = make(pixels=500)
    wide = data_url(file_of(noise(501, 1)))
    for change, message in (
        ({"image": "photo.png"}, "the image must be sent itself"),
        ({"mask": wide, "image": FILL["image"]}, "the mask has 501x1 pixels, at most 500 are taken"),
        ({"image": data_url(b"GIF89a")}, "cannot read the image"),
        ({"mask": data_url(file_of(Image.new("L", SIZE)))}, "the mask is empty"),
    ):
        with pytest.raises(ValueError, match=message):
            queue.submit(job(**change))


def test_following_sees_each_change_to_the_end(make: Make, gated: Gated) -> None:
    queue = make()
    edit_id = queue.submit(job(steps=3)).id

    async def follow() -> list[tuple[State, int]]:
        seen = []
        async for status in queue.follow(edit_id):
            seen.append((status.state, status.step))
            if status.state is State.RUNNING:
                gated.let(1)
        return seen

    seen = asyncio.run(follow())
    assert seen[-1] == (State.DONE, 3)
    assert [step for state, step in seen if state is State.RUNNING][:3] == [0, 1, 2]


def test_following_ends_when_the_server_hangs_up(make: Make) -> None:
    queue = make()
    edit_id = queue.submit(job()).id

    async def follow() -> State:
        async for status in queue.follow(edit_id):
            if status.state is State.RUNNING:
                queue.hang_up()
        return status.state

    assert asyncio.run(asyncio.wait_for(follow(), 10)) is State.RUNNING


def test_closing_cancels_what_is_not_finished_and_ends_the_worker(make: Make, gated: Gated) -> None:
    queue = make()
    ids = [queue.submit(job()).id for _ in range(2)]
    until(queue, ids[0], State.RUNNING)
    gated.let(1)
    queue.close()
    assert {queue.status(edit_id).state for edit_id in ids} == {State.CANCELLED}
    assert not queue._worker.is_alive()


def test_an_image_comes_in_every_format_that_can_hold_it(make: Make, gated: Gated) -> None:
    queue = make()
    gated.let(100)
    clear = noise(*SIZE, "RGBA")
    opaque_id, clear_id = queue.submit(job()).id, queue.submit(job(image=data_url(file_of(clear)))).id
    until(queue, clear_id, State.DONE)
    png = Image.open(io.BytesIO(queue.image(opaque_id)))
    webp = Image.open(io.BytesIO(queue.image(opaque_id, ".webp")))
    assert (png.format, webp.format, digest_of(png)) == ("PNG", "WEBP", digest_of(webp))
    assert Image.open(io.BytesIO(queue.image(opaque_id, ".jpg"))).format == "JPEG"
    assert Image.open(io.BytesIO(queue.image(clear_id))).mode == "RGBA"
    with pytest.raises(ValueError, match="JPEG cannot be"):
        queue.image(clear_id, ".jpg")


def test_a_limit_is_positive() -> None:
    with pytest.raises(ValueError, match="got a limit of 0 for waiting"):
        Limits(waiting=0)
