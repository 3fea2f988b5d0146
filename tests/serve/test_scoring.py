"""The queue before the judge: who shares a forward pass, who fails, and that nobody fails another one."""

import math
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from onereward.edit.judge import ImageJudge, Score, Scores, load_judge
from onereward.serve.limits import Taken
from onereward.serve.queue import QueueFullError
from onereward.serve.scorer_bodies import Question
from onereward.serve.scoring import Asking, ClosedError, NoScoreError, Scored, ScoreQueue
from onereward.serve.uploads import picture_in
from onereward.terms import Dimension, Task
from tests.serve.scores import FailingModel, GatedJudge, question
from tests.tiny_judge import tiny_judge_folder

MIXED = [
    question(40),
    question(90, Task.REMOVE, "", (Dimension.REMOVAL_QUALITY,)),
    question(33, Task.TEXT, "the word OPEN", (Dimension.TEXT_ALIGNMENT, Dimension.AESTHETICS)),
    question(70, Task.EXTEND, "", (Dimension.CONSISTENCY, Dimension.STRUCTURE, Dimension.AESTHETICS)),
]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> ImageJudge:
    return load_judge(str(tiny_judge_folder(tmp_path_factory.mktemp("judge"))))


@contextmanager
def gated(judge: ImageJudge, waiting: int = 100, **asking: Any) -> Iterator[tuple[ScoreQueue, Any]]:
    behind: Any = GatedJudge(judge)
    with ScoreQueue(behind, limits=Taken(waiting=waiting), asking=Asking(**asking)) as queue:
        yield queue, behind
        behind.gate.release(1000)


def numbers(scored: Scored) -> dict[Dimension, tuple[float, ...]]:
    return {dimension: tuple(vars(score).values()) for dimension, score in scored.scores.items()}


def scores_of(judge: ImageJudge, asked: Question) -> Scores:
    """Those of a pair alone."""
    first, second = (picture_in(one, "it", 10_000) for one in (asked.first, asked.second))
    return judge.scores(first, second, asked.task, asked.prompt, asked.dimensions)


def result(answer: Future[Scored]) -> Scored:
    return answer.result(timeout=20)


def test_pairs_that_come_while_the_judge_is_busy_share_a_batch(judge: ImageJudge) -> None:
    with gated(judge, batch=4, wait_ms=0) as (queue, behind):
        first = queue.submit(question())
        assert behind.entered.acquire(timeout=20)
        others = [queue.submit(one) for one in (*MIXED, question(50))]
        behind.gate.release(3)
        assert [result(answer).batch for answer in (first, *others)] == [1, 4, 4, 4, 4, 1]
    assert behind.batches == [1, 4, 1]


def test_the_first_of_a_batch_waits_for_others_but_not_for_ever(judge: ImageJudge) -> None:
    with gated(judge, batch=2, wait_ms=60_000) as (queue, behind):
        behind.gate.release(2)
        assert [result(answer).batch for answer in (queue.submit(question()), queue.submit(question()))] == [2, 2]
    with gated(judge, batch=2, wait_ms=10) as (queue, behind):
        behind.gate.release()
        assert result(queue.submit(question())).batch == 1


def test_a_batch_answers_as_each_pair_alone(judge: ImageJudge) -> None:
    alone = [scores_of(judge, one) for one in MIXED]
    with gated(judge, batch=4, wait_ms=60_000) as (queue, behind):
        behind.gate.release()
        answers = [result(answer) for answer in [queue.submit(one) for one in MIXED]]
    assert behind.batches == [4]
    for answer, expected, asked in zip(answers, alone, MIXED, strict=True):
        assert tuple(answer.scores) == asked.dimensions
        for dimension, score in answer.scores.items():
            assert vars(score) == pytest.approx(vars(expected[dimension]), abs=1e-4)


@pytest.mark.parametrize("count", [24, pytest.param(500, marks=pytest.mark.soak)])
def test_deterministic_answers_are_bit_equal_whatever_else_is_asked(judge: ImageJudge, count: int) -> None:
    asking = Asking(batch=16, deterministic=True)
    with ScoreQueue(judge, asking=asking) as queue:
        alone = [numbers(result(queue.submit(one))) for one in MIXED]
    with ScoreQueue(judge, limits=Taken(waiting=count), asking=asking) as queue:
        answers: dict[int, Future[Scored]] = {}

        def ask(start: int) -> None:
            for place in range(start, count, 4):
                answers[place] = queue.submit(MIXED[place % 3 + place % 2])

        threads = [threading.Thread(target=ask, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        scored = {place: result(answer) for place, answer in answers.items()}
    assert len(scored) == count and {one.batch for one in scored.values()} == {1}
    for place, one in scored.items():
        assert numbers(one) == alone[place % 3 + place % 2]


def test_deterministic_settings_are_the_worker_s_and_end_with_it(judge: ImageJudge) -> None:
    seen: list[tuple[int, bool]] = []

    class Looking(ImageJudge):
        def score_each(self, pairs: Any) -> Any:
            seen.append((torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()))
            return super().score_each(pairs)

    for asking in (Asking(deterministic=True), Asking(deterministic=True, threads=2), Asking(threads=3, wait_ms=0)):
        with ScoreQueue(Looking(judge.model), asking=asking) as queue:
            result(queue.submit(question()))
    assert seen == [(1, True), (2, True), (3, False)]
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_pair_that_fails_fails_no_neighbour(judge: ImageJudge, caplog: pytest.LogCaptureFixture) -> None:
    model: Any = FailingModel(judge.model, fails_on=90, no_number_of=33)
    with gated(ImageJudge(model), batch=4, wait_ms=60_000) as (queue, behind):
        behind.gate.release()
        answers = [queue.submit(one) for one in MIXED]
        for good in (answers[0], answers[3]):
            assert all(isinstance(score, Score) for score in result(good).scores.values())
        with pytest.raises(NoScoreError, match=r"^unexpected RuntimeError: the server's log says more$"):
            result(answers[1])
        with pytest.raises(NoScoreError, match=r"^the judge's answer is no number \(log_odds_backward is inf\)"):
            result(answers[2])
    assert behind.batches == [4]
    assert "RuntimeError: /secret/place" in caplog.text


def test_whatever_a_judge_does_nobody_waits_for_ever(judge: ImageJudge) -> None:
    broken: Any = GatedJudge(judge)
    broken.score_each = lambda pairs: 1 / 0
    with ScoreQueue(broken) as queue:
        for _ in range(2):
            with pytest.raises(NoScoreError, match="unexpected ZeroDivisionError"):
                result(queue.submit(question()))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_no_score(value: float) -> None:
    for name in ("probability", "log_odds_forward", "log_odds_backward", "outside_mass"):
        numbers = {"probability": 0.5, "log_odds_forward": 0, "log_odds_backward": 0, "outside_mass": 0, name: value}
        with pytest.raises(ValueError, match=rf"is no number \({name} is {value}\)"):
            Score(**numbers)


def test_a_full_line_takes_no_more(judge: ImageJudge) -> None:
    with gated(judge, waiting=2, batch=1) as (queue, behind):
        running = queue.submit(question())
        assert behind.entered.acquire(timeout=20)
        waiting = [queue.submit(question()) for _ in range(2)]
        with pytest.raises(QueueFullError, match="2 pairs wait already, which is all that may: try again later"):
            queue.submit(question())
        behind.gate.release(3)
        for answer in (running, *waiting):
            result(answer)
        behind.gate.release()
        result(queue.submit(question()))


def test_who_goes_before_the_judge_is_asked_costs_nothing(judge: ImageJudge) -> None:
    with gated(judge, batch=8, wait_ms=0) as (queue, behind):
        running = queue.submit(question())
        assert behind.entered.acquire(timeout=20)
        gone, stays = queue.submit(question()), queue.submit(question())
        assert gone.cancel() and not running.cancel()
        behind.gate.release(2)
        assert result(stays).batch == 1 and result(running).batch == 1
        with pytest.raises(CancelledError):
            gone.result()


def test_at_the_end_who_waits_is_told(judge: ImageJudge) -> None:
    with gated(judge, batch=1) as (queue, behind):
        running = queue.submit(question())
        assert behind.entered.acquire(timeout=20)
        waiting, gone = queue.submit(question()), queue.submit(question())
        assert gone.cancel()
        threading.Timer(0.1, behind.gate.release).start()
        queue.close()
        assert result(running).batch == 1
        for refused in (lambda: result(waiting), lambda: queue.submit(question())):
            with pytest.raises(ClosedError, match="the scorer ends"):
                refused()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"batch": 0}, "a batch of 0"), ({"wait_ms": -1}, "a wait of -1 ms"), ({"threads": 0}, "got 0 threads")],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Asking(**wrong)
