"""What a request may say, as the types that OpenAPI shows and that check it: an EditJob with its pictures in it."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from onereward.edit.jobs import EditJob
from onereward.edit.regions import Fit
from onereward.terms import Task
from onereward.web.shell import told

DATA_URL = "data-url"
_PICTURE = Field(
    pattern="^data:[^,]*;base64,",
    json_schema_extra={"format": DATA_URL},
    description="A PNG, JPEG or WebP file as data:image/png;base64,...",
)
Picture = Annotated[str, _PICTURE]
Words = Annotated[str, Field(max_length=10_000)]
_WHOLE = BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)
"""JSON may write a whole number as 3.0; comes after the bounds, or the schema would not show them."""
Pixels = Annotated[int, Field(ge=1, le=100_000), _WHOLE]
_SIDES = ("left", "right", "top", "bottom")


BodySchemas = tuple[dict[str, Any], dict[str, Any]]
"""The schema of a body of JSON, with both's definitions under `$defs`, and that of a form."""


def _own() -> Any:
    """Stands for the editor's own value, without a `default` in the schema: what is not set is never read."""
    return None


class _Settings(BaseModel):
    """What every edit may say; what is left out is the editor's own."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    image: Picture
    seed: Annotated[int, Field(ge=0, le=2**63 - 1), _WHOLE] = 0
    """Another seed, another image."""
    steps: Annotated[int, Field(ge=1, le=1000), _WHOLE] = Field(default_factory=_own)
    """Sampling steps."""
    guidance: float = Field(default_factory=_own, ge=0, le=1000, allow_inf_nan=False)
    """Embedded guidance."""
    true_cfg: float = Field(default_factory=_own, ge=1, le=1000, allow_inf_nan=False)
    """Above 1: steer away from the negative prompt."""
    negative_prompt: Words = Field(default_factory=_own)
    """What true_cfg steers away from."""
    fit: Fit = Fit.CROP
    """What the editor sees: the part around the mask, all with mirrored margins, or all of it resized."""
    feather: Annotated[int, Field(ge=0, le=10_000), _WHOLE] = 0
    """Pixels inside the mask over which the edit fades in."""


class PromptedEdit(_Settings):
    """Show what the prompt says where the mask is white."""

    task: Literal[Task.FILL, Task.TEXT]
    mask: Picture
    prompt: Words = Field(min_length=1)


class MaskedEdit(_Settings):
    """Remove what the mask covers, or continue the picture there."""

    task: Literal[Task.REMOVE, Task.EXTEND]
    mask: Picture
    prompt: Words = ""


class _Extend(_Settings):
    task: Literal[Task.EXTEND]
    prompt: Words = ""


class ExtendBySides(_Extend):
    """Add pixels at one side at least."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": [side]} for side in _SIDES]})

    left: Pixels = Field(default_factory=_own)
    right: Pixels = Field(default_factory=_own)
    top: Pixels = Field(default_factory=_own)
    bottom: Pixels = Field(default_factory=_own)

    @model_validator(mode="after")
    def _adds_something(self) -> "ExtendBySides":
        if not self.model_fields_set.intersection(_SIDES):
            raise ValueError(f"an extend says how far: by ratio, by size, or by pixels at {', '.join(_SIDES)}")
        return self


class ExtendToRatio(_Extend):
    """Widen or heighten the picture to a ratio."""

    ratio: str = Field(pattern="^[1-9][0-9]{0,5}:[1-9][0-9]{0,5}$", examples=["16:9"])


class ExtendToSize(_Extend):
    """Enlarge the picture to a size, the old one in the middle."""

    size: str = Field(pattern="^[1-9][0-9]{0,5}x[1-9][0-9]{0,5}$", examples=["800x600"])


def _kind(values: Any) -> str | None:
    """Which of the models a body means, so that what it gets wrong is said of that one."""
    given = values if isinstance(values, dict) else {}
    task = given.get("task")
    if task == Task.EXTEND and "mask" not in given:
        return "ratio" if "ratio" in given else "size" if "size" in given else "sides"
    if task in (Task.REMOVE, Task.EXTEND):
        return "masked"
    return "prompted" if task in (Task.FILL, Task.TEXT) else None


EditBody = Annotated[
    Annotated[PromptedEdit, Tag("prompted")]
    | Annotated[MaskedEdit, Tag("masked")]
    | Annotated[ExtendBySides, Tag("sides")]
    | Annotated[ExtendToRatio, Tag("ratio")]
    | Annotated[ExtendToSize, Tag("size")],
    Discriminator(
        _kind,
        custom_error_type="task",
        custom_error_message=f"expected an object with a task, which is one of {', '.join(Task)}",
    ),
]
_BODY: TypeAdapter[Any] = TypeAdapter(EditBody)


def job_of_json(body: bytes) -> EditJob:
    """The job in a JSON body; raises ValueError, in one sentence, for what is none."""
    try:
        checked = _BODY.validate_json(body, strict=True)
    except ValidationError as error:
        raise ValueError(told(error.errors(include_url=False))) from None
    return EditJob.of(checked.model_dump(exclude_unset=True))


def job_of_form(fields: Mapping[str, str | list[str]]) -> EditJob:
    """The job in a form's fields, its pictures already data: URLs; raises ValueError for what is none."""
    try:
        checked = _BODY.validate_strings(fields)
    except ValidationError as error:
        raise ValueError(told(error.errors(include_url=False))) from None
    return EditJob.of(checked.model_dump(exclude_unset=True))


def body_schemas() -> BodySchemas:
    """`schemas_of` the bodies of an edit."""
    return schemas_of(_BODY)


def schemas_of(body: TypeAdapter[Any]) -> BodySchemas:
    """The schemas of a body, which is one of several models; in a form its pictures are files."""
    schema = body.json_schema(ref_template="#/components/schemas/{model}")
    forms = {f"{name}Form": _with_files(model) for name, model in schema["$defs"].items() if "properties" in model}
    as_form = {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in forms]}
    return {**schema, "$defs": {**schema["$defs"], **forms}}, as_form


def _with_files(model: dict[str, Any]) -> dict[str, Any]:
    """A model's schema as a form has it: the pictures are files."""
    file = {"type": "string", "format": "binary", "description": "A PNG, JPEG or WebP file."}
    properties = {name: file if one.get("format") == DATA_URL else one for name, one in model["properties"].items()}
    return {**model, "title": f"{model['title']}Form", "properties": properties}
