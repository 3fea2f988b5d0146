"""What participants are asked about an output, and about which outputs: the columns and rows of Table 3."""

from dataclasses import dataclass
from enum import StrEnum

from onereward.terms import Task, has_user_prompt


class Group(StrEnum):
    """The groups of rows of Table 3, in its order and words."""

    FILL = "Image Fill"
    EXTEND_PROMPT = "Image Extend w Prompt"
    EXTEND_FREE = "Image Extend w/o Prompt"
    REMOVE = "Object Removal"


class SubTask(StrEnum):
    """What an item asks of an editor; each has questions of its own."""

    FILL = "fill"
    TEXT = "text"
    EXTEND_PROMPT = "extend_prompt"
    EXTEND_FREE = "extend_free"
    REMOVE = "remove"

    @property
    def group(self) -> Group:
        """Where its ratings count in Table 3: text rendering is part of image fill."""
        return Group.FILL if self is SubTask.TEXT else Group[self.name]


class Criterion(StrEnum):
    """The columns of Table 3, in its order."""

    USABILITY = "usability"
    TEXT_ALIGNMENT = "text_alignment"
    TEXTURE_CONSISTENCY = "texture_consistency"
    STYLE_CONSISTENCY = "style_consistency"
    STRUCTURE = "structure"
    AESTHETICS = "aesthetics"
    TEXT_RENDERING = "text_rendering"
    REMOVAL_QUALITY = "removal_quality"

    @property
    def question(self) -> "Question":
        """How it is put to a participant."""
        return QUESTIONS[self]

    @property
    def values(self) -> range:
        """All answers, from the lowest to the highest."""
        return range(1, 6) if self.question.kind is Kind.GRADED else range(2)

    @property
    def bounds(self) -> tuple[int, int]:
        """The lowest and the highest answer."""
        return self.values[0], self.values[-1]


class Kind(StrEnum):
    """Acceptable or not, reported as a rate; or 1 to 5, reported as a mean opinion score."""

    BINARY = "binary"
    GRADED = "graded"


@dataclass(frozen=True, kw_only=True)
class Question:
    """How a criterion is put to a participant; `low` and `high` name the ends of its scale."""

    title: str
    text: str
    kind: Kind
    low: str
    high: str


def _binary(title: str, text: str) -> Question:
    return Question(title=title, text=text, kind=Kind.BINARY, low="No", high="Yes")


def _graded(title: str, text: str) -> Question:
    return Question(title=title, text=text, kind=Kind.GRADED, low="Very bad", high="Very good")


QUESTIONS: dict[Criterion, Question] = {
    Criterion.USABILITY: _binary("Usability", "Taken as a whole, would you accept this image as it is?"),
    Criterion.TEXT_ALIGNMENT: _graded(
        "Text alignment", "How well does the new part show what the description asks for?"
    ),
    Criterion.TEXTURE_CONSISTENCY: _graded(
        "Texture consistency", "How well do texture, light and sharpness of the new part go on from the rest?"
    ),
    Criterion.STYLE_CONSISTENCY: _graded(
        "Style consistency", "How well does the style of the new part suit the style of the rest?"
    ),
    Criterion.STRUCTURE: _graded(
        "Structure", "How plausible are the shapes: bodies, limbs, objects, lines and perspective?"
    ),
    Criterion.AESTHETICS: _graded("Aesthetics", "How pleasing is the image to look at?"),
    Criterion.TEXT_RENDERING: _binary("Text rendering", "Are the words written correctly and legibly?"),
    Criterion.REMOVAL_QUALITY: _binary("Removal quality", "Is what was marked gone, with nothing new in its place?"),
}

_GRADES = (
    Criterion.TEXTURE_CONSISTENCY,
    Criterion.STYLE_CONSISTENCY,
    Criterion.STRUCTURE,
    Criterion.AESTHETICS,
)
_PROMPTED = (Criterion.USABILITY, Criterion.TEXT_ALIGNMENT, *_GRADES)

_CRITERIA: dict[SubTask, tuple[Criterion, ...]] = {
    SubTask.FILL: _PROMPTED,
    SubTask.TEXT: (*_PROMPTED, Criterion.TEXT_RENDERING),
    SubTask.EXTEND_PROMPT: _PROMPTED,
    SubTask.EXTEND_FREE: (Criterion.USABILITY, *_GRADES),
    SubTask.REMOVE: (
        Criterion.USABILITY,
        Criterion.TEXTURE_CONSISTENCY,
        Criterion.STRUCTURE,
        Criterion.REMOVAL_QUALITY,
    ),
}


def subtask_of(task: Task, prompt: str) -> SubTask:
    """What an item of this task and prompt asks of an editor."""
    if task is Task.EXTEND:
        return SubTask.EXTEND_PROMPT if has_user_prompt(task, prompt) else SubTask.EXTEND_FREE
    return SubTask(task.value)


def criteria_of(subtask: SubTask) -> tuple[Criterion, ...]:
    """What is asked about an output, in the order of Table 3."""
    return _CRITERIA[subtask]


def cells_of(group: Group) -> tuple[Criterion, ...]:
    """The columns of Table 3 that hold a number in this group of rows."""
    asked = {criterion for subtask in SubTask if subtask.group is group for criterion in criteria_of(subtask)}
    return tuple(criterion for criterion in Criterion if criterion in asked)
