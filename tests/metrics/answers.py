"""Answers for tests: only what a test is about is said."""

from onereward.metrics.records import Answer
from onereward.terms import Dimension, Task


def answer(
    triplet: str,
    winner_first: float,
    loser_first: float,
    task: Task = Task.FILL,
    dimension: Dimension = Dimension.STRUCTURE,
    variant: str = "task_dimension",
    *,
    voter: str = "ann",
    pair: tuple[int, int] = (0, 1),
    kind: str = "person",
    source: str = "",
    tie: bool = False,
    outside: float | None = 0.0,
    temperature: float = 1.0,
) -> Answer:
    """`pair` is the winner's and the loser's index."""
    return Answer(
        triplet_id=triplet,
        task=task,
        dimension=dimension,
        variant=variant,
        winner_first=winner_first,
        loser_first=loser_first,
        outside=outside,
        temperature=temperature,
        source=source,
        winner_index=pair[0],
        loser_index=pair[1],
        voter=voter,
        kind=kind,
        tie=tie,
    )
