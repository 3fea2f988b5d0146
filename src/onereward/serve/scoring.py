"""One worker that owns the judge, and a bounded line of pairs before it, asked about several at a time.

Every method may be called from any thread. Torch-free; the judge brings it.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from onereward.serve.limits import Taken
from onereward.serve.queue import QueueFullError, for_strangers
from onereward.serve.scorer_bodies import Question
from onereward.serve.uploads import picture_in

if TYPE_CHECKING:
    from onereward.edit.judge import ImageJudge, Pair, Scores

logger = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds that closing waits for the running batch


class NoScoreError(Exception):
    """A pair has no score, and why."""


class ClosedError(Exception):
    """The scorer has ended."""


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How the judge is asked: about `batch` pairs at once, the first of which waits `wait_ms` for the others at most.

    `deterministic` asks about each pair alone, with operations that always round alike, so that no bit of an answer
    hangs on what else is asked. `threads` is how many compute on a CPU: None is torch's own, or 1 if deterministic.
    """

    batch: int = 16
    wait_ms: float = 5
    deterministic: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"got a batch of {self.batch}, expected 1 or more")
        if self.wait_ms < 0:
            raise ValueError(f"got a wait of {self.wait_ms} ms, expected 0 or more")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"got {self.threads} threads, expected 1 or more")

    @property
    def at_once(self) -> int:
        """Pairs that share a forward pass at most."""
        return 1 if self.deterministic else self.batch

    @contextmanager
    def settled(self) -> Iterator[None]:
        """The calling thread computes so."""
        import torch

        from onereward.runtime.threads import torch_threads

        before = torch.are_deterministic_algorithms_enabled()
        if self.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS asks for
            torch.use_deterministic_algorithms(True)
        try:
            with torch_threads(1 if self.deterministic and self.threads is None else self.threads):
                yield
        finally:
            torch.use_deterministic_algorithms(before)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scores of a pair, and how many pairs shared its forward pass."""

    scores: "Scores"
    batch: int


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    pair: "Pair"
    answer: Future[Scored] = field(default_factory=Future)


class ScoreQueue:
    """Pairs scored by one judge; close it, or use it as a context, to end its worker."""

    def __init__(self, judge: "ImageJudge", *, limits: Taken | None = None, asking: Asking | None = None) -> None:
        self.judge = judge
        self.limits = limits or Taken()
        self.asking = asking or Asking()
        self._waiting: deque[_Asked] = deque()
        self._closing = False
        self._changed = threading.Condition()
        self._worker = threading.Thread(target=self._work, name="judge", daemon=True)
        self._worker.start()

    def submit(self, question: Question) -> Future[Scored]:
        """Put a pair at the end of the line; blocks while its pictures are read, so not for an event loop.

        Raises ValueError for what the judge cannot be asked, QueueFullError for a full line, ClosedError after the end.
        The future has the scores, or NoScoreError; cancelled in time, the pair is not asked about.
        """
        with self._changed:
            self._check_room()
        pair = self.judge.pair(
            picture_in(question.first, "the first image", self.limits.pixels),
            picture_in(question.second, "the second image", self.limits.pixels),
            question.task,
            question.prompt,
            question.dimensions,
        )
        asked = _Asked(pair=pair)
        with self._changed:
            self._check_room()
            self._waiting.append(asked)
            self._changed.notify_all()
        return asked.answer

    def hang_up(self) -> None:
        """Ask about no more pairs than those of the running batch: who waits, or comes later, gets ClosedError."""
        with self._changed:
            self._closing = True
            while self._waiting:
                answer = self._waiting.popleft().answer
                if answer.set_running_or_notify_cancel():
                    answer.set_exception(ClosedError("the scorer ends: ask another one"))
            self._changed.notify_all()

    def close(self) -> None:
        """`hang_up`, and wait for the running batch."""
        self.hang_up()
        self._worker.join(_PATIENCE)

    def __enter__(self) -> "ScoreQueue":
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    def _check_room(self) -> None:
        if self._closing:
            raise ClosedError("the scorer ends: ask another one")
        if len(self._waiting) >= self.limits.waiting:
            self._waiting = deque(asked for asked in self._waiting if not asked.answer.cancelled())
        if len(self._waiting) >= self.limits.waiting:
            raise QueueFullError(f"{len(self._waiting)} pairs wait already, which is all that may: try again later")

    def _work(self) -> None:
        with self.asking.settled():
            while (batch := self._next()) is not None:
                self._answer([asked for asked in batch if asked.answer.set_running_or_notify_cancel()])

    def _next(self) -> list[_Asked] | None:
        """Whom to answer now; None when the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing)
            self._changed.wait_for(self._is_batch, self.asking.wait_ms / 1000)
            if self._closing:
                return None
            return [self._waiting.popleft() for _ in range(min(self.asking.at_once, len(self._waiting)))]

    def _is_batch(self) -> bool:
        return len(self._waiting) >= self.asking.at_once or self._closing

    def _answer(self, batch: Sequence[_Asked]) -> None:
        outcomes: Sequence[Scores | Exception]
        try:
            outcomes = self.judge.score_each([asked.pair for asked in batch])
        except Exception as error:  # or the worker would end, and everybody wait for ever
            outcomes = [error] * len(batch)
        for asked, outcome in zip(batch, outcomes, strict=True):
            if not isinstance(outcome, Exception):
                asked.answer.set_result(Scored(scores=outcome, batch=len(batch)))
            elif isinstance(outcome, ValueError):
                asked.answer.set_exception(NoScoreError(str(outcome)))
            else:
                logger.error("a pair has no score", exc_info=outcome)
                asked.answer.set_exception(NoScoreError(for_strangers(outcome)))
