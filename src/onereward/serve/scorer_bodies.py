"""What a request to the scorer may say, as the types that OpenAPI shows and that check it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, field_validator

from onereward.serve.bodies import BodySchemas, Picture, Words, schemas_of
from onereward.terms import Dimension, Task, dimensions_of
from onereward.web.shell import told

PICTURES = ("first", "second")
LISTS = ("dimension",)

_Generated = Literal[Task.FILL, Task.EXTEND, Task.TEXT]
_ASKED: Any = Field(default=[], max_length=len(Dimension))


@dataclass(frozen=True, kw_only=True)
class Question:
    """A pair to score; its pictures are data: URLs."""

    first: str = field(repr=False)
    second: str = field(repr=False)
    task: Task
    prompt: str
    dimensions: tuple[Dimension, ...]


class _Pair(BaseModel):
    """What every request says; the pictures may differ in size. No dimension stands for all that apply."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    first: Picture
    second: Picture


class PromptedPair(_Pair):
    """Two edits that should show what the prompt says."""

    task: _Generated
    prompt: Words = Field(min_length=1)
    dimension: list[Literal["text_alignment", "consistency", "structure", "aesthetics"]] = _ASKED


class UnpromptedPair(_Pair):
    """Two edits without a prompt: nobody can ask whether they show what it says."""

    task: _Generated
    prompt: Literal[""] = ""
    dimension: list[Literal["consistency", "structure", "aesthetics"]] = _ASKED

    @field_validator("dimension", mode="before")
    @classmethod
    def _says_what_to_show(cls, given: Any) -> Any:
        if isinstance(given, list) and Dimension.TEXT_ALIGNMENT in given:
            raise ValueError("text_alignment asks whether an image shows what the prompt says: send the prompt")
        return given


class RemovalPair(_Pair):
    """Two edits that should remove something."""

    task: Literal[Task.REMOVE]
    prompt: Words = ""
    dimension: list[Literal["removal_quality"]] = _ASKED


def _kind(values: Any) -> str | None:
    """Which of the models a body means, so that what it gets wrong is said of that one."""
    given = values if isinstance(values, dict) else {}
    task = given.get("task")
    if task in (Task.FILL, Task.EXTEND, Task.TEXT):
        return "unprompted" if given.get("prompt", "") == "" else "prompted"
    return "removal" if task == Task.REMOVE else None


_Body = Annotated[
    Annotated[PromptedPair, Tag("prompted")]
    | Annotated[UnpromptedPair, Tag("unprompted")]
    | Annotated[RemovalPair, Tag("removal")],
    Discriminator(
        _kind,
        custom_error_type="task",
        custom_error_message=f"expected an object with a task, which is one of {', '.join(Task)}",
    ),
]
_BODY: TypeAdapter[Any] = TypeAdapter(_Body)


def question_of_json(body: bytes) -> Question:
    """The pair in a JSON body; raises ValueError, in one sentence, for what is none."""
    try:
        return _question(_BODY.validate_json(body, strict=True))
    except ValidationError as error:
        raise ValueError(told(error.errors(include_url=False))) from None


def question_of_form(fields: Mapping[str, str | list[str]]) -> Question:
    """The pair in a form's fields, its pictures already data: URLs; raises ValueError for what is none."""
    try:
        return _question(_BODY.validate_python(fields))
    except ValidationError as error:
        raise ValueError(told(error.errors(include_url=False))) from None


def question_schemas() -> BodySchemas:
    """`schemas_of` a pair."""
    return schemas_of(_BODY)


def _question(body: PromptedPair | UnpromptedPair | RemovalPair) -> Question:
    return Question(
        first=body.first,
        second=body.second,
        task=body.task,
        prompt=body.prompt,
        dimensions=tuple(map(Dimension, dict.fromkeys(body.dimension))) or dimensions_of(body.task, body.prompt),
    )
