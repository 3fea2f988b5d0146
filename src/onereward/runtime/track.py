"""What a person sees of long work: a progress bar with rate and ETA, and `log.jsonl` with one object a step."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from onereward.store.files import write_atomically

logger = logging.getLogger("onereward")


def hush_libraries() -> None:
    """What libraries say that is nobody's business: without a GPU bitsandbytes warns of kernels not asked for."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def hush() -> None:
    """In a worker: its progress bar would write over the parent's."""
    logger.setLevel(logging.WARNING)


class Log:
    """`log.jsonl`: one JSON object a step, its `step` counted from 1, flushed as it is written."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def cut_after(self, step: int) -> None:
        """Drop what a stopped run wrote after its last checkpoint (and a half-written line): it will be done again."""
        if self._path.exists():
            lines = self._path.read_bytes().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith(b"\n") and json.loads(line)["step"] <= step]
            write_atomically(self._path, b"".join(kept))

    def last(self) -> dict[str, Any]:
        """The last line, {} without any."""
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        line: dict[str, Any] = json.loads(lines[-1]) if lines else {}
        return line

    def write(self, step: int, **values: Any) -> None:
        """Append the line of one step."""
        with self._path.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


@contextmanager
def track(total: int, description: str, *, done: int = 0) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr; what it yields is called as `advance(count=1, note="")`.

    `done` of `total` were done by an earlier run. Nothing is shown under `-q`, or where stderr is no terminal.
    """
    if not (logger.isEnabledFor(logging.INFO) and sys.stderr.isatty()):
        yield lambda count=1, note="": None
        return
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
        progress.TextColumn("{task.fields[note]}"),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task(description, total=total, completed=done, rate="", note="")

        def advance(count: int = 1, note: str = "") -> None:
            bars.update(bar, advance=count, note=note)
            speed = bars.tasks[0].finished_speed or bars.tasks[0].speed
            bars.update(
                bar, rate="" if speed is None else f"{speed:.1f}/s" if speed >= 1 else f"{1 / speed:.1f} s each"
            )

        yield advance
