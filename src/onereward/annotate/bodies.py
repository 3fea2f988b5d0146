"""What a request may say, as the types that check it and that OpenAPI shows."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, StrictBool, StringConstraints
from starlette.exceptions import HTTPException

from onereward.annotate.work import Choice, Reason, Submission
from onereward.people.persons import Role
from onereward.terms import Dimension
from onereward.web.bodies import NO_WORDS, Body, Id, Seconds, Uuid

_MOST_CANDIDATES = 64

_Place = Annotated[int, Field(ge=0, lt=_MOST_CANDIDATES), NO_WORDS]
_UNPRINTED = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_PRINTED = f"[^{_UNPRINTED}]"
_Name = Annotated[
    str,
    StringConstraints(pattern=rf"^{_PRINTED}*[^\s{_UNPRINTED}]{_PRINTED}*$", max_length=200),
    Field(description="As the admin page shows it, on one line."),
]
_Action = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")]
_Key = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=32)]


class Claim(Body):
    """A wish for the next item."""

    request: Uuid
    ahead: StrictBool = False
    """Whether it is to be shown later."""


class Vote(Body):
    """The answer in one dimension: two places of candidates, or neither and why."""

    dimension: Dimension
    best: _Place | None
    worst: _Place | None
    reason: Reason | None = None


class Answer(Body):
    """An answer to an item in all its dimensions."""

    uuid: Uuid
    assignment: Id
    seconds: Seconds
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


class Settings(Body):
    """What a person has chosen for their pages."""

    keys: Annotated[dict[_Action, _Key], Field(max_length=64, json_schema_extra={"additionalProperties": False})] = (
        Field(default_factory=dict)
    )


class NewPerson(Body):
    """Somebody to be let in."""

    name: _Name
    role: Literal[Role.ANNOTATOR, Role.ADMIN]


class Withdrawal(Body):
    """How somebody leaves."""

    drop: StrictBool = False
    """Their answers are not counted, and asked again of others."""


class Pause(Body):
    """Whether items are given out."""

    paused: StrictBool
