"""The words of the project as types: what a task, a dimension, a triplet, a candidate, a vote and a preference are.

Standard library only, so that any stage (and the annotation server, which never imports torch) can speak them.
"""

from dataclasses import dataclass
from enum import StrEnum


class Task(StrEnum):
    """What the editor is asked to do with the masked region (s_k in the paper)."""

    FILL = "fill"
    EXTEND = "extend"
    REMOVE = "remove"
    TEXT = "text"


class Dimension(StrEnum):
    """The criterion by which two edits are compared (e in E_k in the paper)."""

    TEXT_ALIGNMENT = "text_alignment"
    CONSISTENCY = "consistency"
    STRUCTURE = "structure"
    AESTHETICS = "aesthetics"
    REMOVAL_QUALITY = "removal_quality"


def task_named(name: Task | str) -> Task:
    """The task of that name; raises ValueError, listing the tasks, for another."""
    if name not in list(Task):
        raise ValueError(f"unknown task {str(name)!r}; the tasks are {', '.join(Task)}")
    return Task(name)


def dimension_named(name: Dimension | str) -> Dimension:
    """The dimension of that name; raises ValueError, listing the dimensions, for another."""
    if name not in list(Dimension):
        raise ValueError(f"unknown dimension {str(name)!r}; the dimensions are {', '.join(Dimension)}")
    return Dimension(name)


_GENERATED = (Dimension.TEXT_ALIGNMENT, Dimension.CONSISTENCY, Dimension.STRUCTURE, Dimension.AESTHETICS)

DIMENSIONS: dict[Task, tuple[Dimension, ...]] = {
    Task.FILL: _GENERATED,
    Task.EXTEND: _GENERATED,
    Task.REMOVE: (Dimension.REMOVAL_QUALITY,),
    Task.TEXT: _GENERATED,
}

REMOVE_PROMPT = "remove"
EXTEND_PROMPT = "high-definition, perfect composition"


def has_user_prompt(task: Task, prompt: str) -> bool:
    """Whether somebody described the content: false for removal and for an extend without a prompt (Sec. 4.2)."""
    return task is not Task.REMOVE and prompt not in ("", EXTEND_PROMPT)


def dimensions_of(task: Task, prompt: str) -> tuple[Dimension, ...]:
    """E_k for one triplet: the task's dimensions, text alignment only where a user's prompt exists."""
    return tuple(
        dimension
        for dimension in DIMENSIONS[task]
        if dimension is not Dimension.TEXT_ALIGNMENT or has_user_prompt(task, prompt)
    )


@dataclass(frozen=True, kw_only=True)
class Triplet:
    """(I_src, M, P): a source image, a mask (white = repaint) of its size and a prompt, with the task they stand for.

    `image` and `mask` are encoded files (PNG or JPEG bytes), as they lie in a shard.
    """

    id: str
    task: Task
    prompt: str
    image: bytes
    mask: bytes


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One editor output for a triplet, with the settings and the seed that made it.

    `index` counts the N candidates of one triplet from 0; `settings` is a JSON object (steps, guidance, true_cfg, ...).
    """

    triplet_id: str
    index: int
    image: bytes
    editor: str
    seed: int
    settings: str


class VoterKind(StrEnum):
    """Who voted: a program that knows a toy world's truth is an oracle and is never called a person."""

    PERSON = "person"
    ORACLE = "oracle"
    MODEL = "model"


@dataclass(frozen=True, kw_only=True)
class Vote:
    """One voter's best and worst among the N candidates of a triplet in one dimension; both None is a skip (Fig. 2)."""

    triplet_id: str
    dimension: Dimension
    best: int | None
    worst: int | None
    voter: str
    kind: VoterKind
    weight: float = 1.0

    @property
    def is_skip(self) -> bool:
        return self.best is None


@dataclass(frozen=True, kw_only=True)
class Preference:
    """(x^w, x^l, q): one winner and loser from one vote, with what the query needs (Eq. 1).

    `source` names the source image, or whatever else groups pairs (splits keep a group together). With `tie` the voter
    saw no difference, and which image is called the winner means nothing.
    """

    triplet_id: str
    task: Task
    dimension: Dimension
    prompt: str
    winner: bytes
    loser: bytes
    winner_index: int
    loser_index: int
    voter: str
    kind: VoterKind
    weight: float
    source: str = ""
    tie: bool = False
