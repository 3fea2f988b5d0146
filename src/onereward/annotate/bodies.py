"""What a request may say, as the types that check it and that OpenAPI shows."""

import re
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StringConstraints
from starlette.exceptions import HTTPException

from onereward.annotate.work import Choice, Reason, Submission
from onereward.people.persons import Role
from onereward.terms import Dimension

_MOST_CANDIDATES = 64
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _known_form(value: str) -> str:
    if not _ID.fullmatch(value):
        raise HTTPException(404, "there is no such thing")
    return value


def _no_words(value: object) -> object:
    """Numbers are not sent as words, as pydantic would take them."""
    if isinstance(value, str | bool):
        raise ValueError("expected a number")
    return value


_NO_WORDS = BeforeValidator(_no_words)  # after the bounds, or the schema would not show them

PathId = Annotated[str, AfterValidator(_known_form)]
"""An id in a path; what cannot be one is answered as one that is not there."""

Uuid = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$"),
    Field(description="A UUID that the client draws; sent again, it means the same request."),
]
_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_Place = Annotated[int, Field(ge=0, lt=_MOST_CANDIDATES), _NO_WORDS]
_Name = Annotated[
    str,
    StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029]+$", max_length=200),
    Field(description="As the admin page shows it, on one line."),
]
_Action = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]
_Key = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=32)]


class _Body(BaseModel):
    """Nothing but what is asked for."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class SignIn(_Body):
    """The token of a link."""

    token: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22,64}$")]


class Claim(_Body):
    """A wish for the next item."""

    request: Uuid
    ahead: StrictBool = False
    """Whether it is to be shown later."""


class Vote(_Body):
    """The answer in one dimension: two places of candidates, or neither and why."""

    dimension: Dimension
    best: _Place | None
    worst: _Place | None
    reason: Reason | None = None


class Answer(_Body):
    """An answer to an item in all its dimensions."""

    uuid: Uuid
    assignment: _Id
    seconds: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False), _NO_WORDS]
    """How long it was looked at."""
    votes: Annotated[list[Vote], Field(min_length=1, max_length=len(Dimension))]

    def submission(self, order: tuple[int, ...]) -> Submission:
        """The same with candidate indices, `order[place]`, for places; HTTPException 422 for a place that is none."""
        for place in (place for vote in self.votes for place in (vote.best, vote.worst)):
            if place is not None and place >= len(order):
                raise HTTPException(422, f"got the place {place}, expected 0 to {len(order) - 1}")
        choices = tuple(
            Choice(
                dimension=vote.dimension,
                best=None if vote.best is None else order[vote.best],
                worst=None if vote.worst is None else order[vote.worst],
                reason=vote.reason,
            )
            for vote in self.votes
        )
        return Submission(uuid=UUID(self.uuid), assignment=self.assignment, seconds=self.seconds, choices=choices)


class Settings(_Body):
    """What a person has chosen for their pages."""

    keys: Annotated[dict[_Action, _Key], Field(max_length=64, json_schema_extra={"additionalProperties": False})] = {}


class NewPerson(_Body):
    """Somebody to be let in."""

    name: _Name
    role: Literal[Role.ANNOTATOR, Role.ADMIN]


class Withdrawal(_Body):
    """How somebody leaves."""

    drop: StrictBool = False
    """Their answers are not counted, and asked again of others."""


class Pause(_Body):
    """Whether items are given out."""

    paused: StrictBool
