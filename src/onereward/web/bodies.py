"""What a request may say, as far as every app asks for it: the types that check it and that OpenAPI shows."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from starlette.exceptions import HTTPException

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _known_form(value: str) -> str:
    if not _ID.fullmatch(value):
        raise HTTPException(404, "there is no such thing")
    return value


def _no_words(value: object) -> object:
    if isinstance(value, str | bool):
        raise ValueError("expected a number")
    return value


NO_WORDS = BeforeValidator(_no_words)
"""Numbers are not sent as words, as pydantic would take them. After the bounds, or the schema would not show them."""

PathId = Annotated[str, AfterValidator(_known_form)]
"""An id in a path; what cannot be one is answered as one that is not there."""

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
"""An id in a body."""

Uuid = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"),
    Field(description="A UUID that the client draws; sent again, it means the same request."),
]

Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False), NO_WORDS]


class Body(BaseModel):
    """Nothing but what is asked for."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class Token(Body):
    """The token of a link."""

    token: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22,64}$")]
