"""The HTTP side of annotation: pages for annotators and admins, and the JSON that their scripts send and read."""

import json
import logging
import math
import time
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from onereward.annotate import bodies, shown
from onereward.annotate.overview import overview
from onereward.annotate.project import pause, project_of
from onereward.annotate.work import (
    ConflictError,
    LostAssignmentError,
    Nothing,
    TooSoonError,
    UnknownAssignmentError,
    Work,
)
from onereward.people.database import Database
from onereward.people.persons import (
    SESSION_SECONDS,
    Clock,
    Entry,
    Person,
    Persons,
    Role,
    UnknownPersonError,
    WithdrawnError,
)
from onereward.people.pictures import Pictures
from onereward.people.tables import CLAIMS
from onereward.web.bodies import PathId
from onereward.web.entrance import add_entrance
from onereward.web.images import IMAGE_ROUTE, Images
from onereward.web.pages import HEADERS, Pages, pages_of
from onereward.web.rates import Rates
from onereward.web.sessions import Gate, gate_of, signed_in
from onereward.web.shell import Refusal, new_app, plain, problems, refusal

_MOST_BYTES = 2**18
"""Of a request: a vote has some hundred."""
_STILL_READ = (
    "this person is erased, but another program reads the database, whose files have the bytes of the name until that "
    "has ended: try again then; the server does it when it is started, too"
)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Rooms:
    """What the routes work with; called from several threads."""

    database: Database
    pictures: Pictures
    persons: Persons
    work: Work
    images: Images
    clock: Clock

    def entry(self, person: str) -> Entry:
        """A person as an admin sees them; UnknownPersonError if there is nobody of that id."""
        for entry in self.persons.all():
            if entry.id == person:
                return entry
        raise UnknownPersonError("there is no such person")

    def order(self, person: str, assignment: str) -> tuple[int, ...]:
        """The candidate index at each place of somebody's assignment; UnknownAssignmentError if it is not theirs."""
        query = sa.select(CLAIMS.c.shown).where(CLAIMS.c.id == assignment, CLAIMS.c.person == person)
        with self.database.reading() as connection:
            order = connection.execute(query).scalar_one_or_none()
        if order is None:
            raise UnknownAssignmentError("there is no such assignment")
        return tuple(json.loads(order))


async def _rooms_of(request: Request) -> _Rooms:
    rooms: _Rooms = request.app.state.rooms
    return rooms


Rooms = Annotated[_Rooms, Depends(_rooms_of)]
Annotator = Annotated[Person, Depends(signed_in(Role.ANNOTATOR))]
Admin = Annotated[Person, Depends(signed_in(Role.ADMIN))]

_routes = APIRouter(responses=problems(400, 401, 422, 429))


add_entrance(_routes, {Role.ANNOTATOR: "/work", Role.ADMIN: "/admin"})


@_routes.get("/work", include_in_schema=False)
async def work_page(request: Request, who: Annotator) -> HTMLResponse:
    """Where an annotator works."""
    return pages_of(request).page("work.html", request, who)


@_routes.get("/admin", include_in_schema=False)
async def admin_page(request: Request, who: Admin) -> HTMLResponse:
    """Where an admin looks after the project."""
    return pages_of(request).page("admin.html", request, who)


@_routes.get("/api/assignments")
def read_held(rooms: Rooms, who: Annotator) -> shown.Held:
    """What this person holds, to go on with."""
    return shown.Held(
        open=[shown.AssignmentShown.of(assignment) for assignment in rooms.work.held(who.id)],
        progress=shown.ProgressShown.of(rooms.work.progress(who.id)),
        settings=bodies.Settings.model_validate_json(rooms.persons.settings(who.id)),
    )


@_routes.post("/api/assignments", responses=problems(409, 410))
def claim(rooms: Rooms, who: Annotator, body: bodies.Claim) -> shown.AssignmentShown | shown.NoneLeft:
    """Take the next item; the same one for the same request."""
    found = rooms.work.claim(who.id, UUID(body.request))
    return shown.NoneLeft(none=found) if isinstance(found, Nothing) else shown.AssignmentShown.of(found)


@_routes.post("/api/assignments/{assignment}/heartbeat", responses=problems(404, 410))
def heartbeat(rooms: Rooms, who: Annotator, assignment: PathId) -> shown.Lease:
    """Keep an item for longer."""
    return shown.Lease(lease_seconds=rooms.work.heartbeat(who.id, assignment))


@_routes.post("/api/assignments/{assignment}/reopen", responses=problems(404, 409))
def reopen(rooms: Rooms, who: Annotator, assignment: PathId) -> shown.AssignmentShown:
    """Take an answered item back, to correct it."""
    return shown.AssignmentShown.of(rooms.work.reopen(who.id, assignment))


@_routes.post("/api/answers", responses=problems(404, 409, 425))
def answer(rooms: Rooms, who: Annotator, body: bodies.Answer) -> shown.Accepted:
    """Answer an item; sent again under the same uuid, it is no second answer."""
    state = rooms.work.answer(who.id, body.submission(rooms.order(who.id, body.assignment)))
    return shown.Accepted(state=state, progress=shown.ProgressShown.of(rooms.work.progress(who.id)))


@_routes.get("/api/images/{image}", **IMAGE_ROUTE)
def read_image(rooms: Rooms, who: Annotator, image: PathId) -> Response:
    """A picture of what this person was given."""
    if not rooms.work.may_see(who.id, image):
        raise HTTPException(404, "there is no such picture")
    return rooms.images.answer(rooms.pictures.path(image))


@_routes.put("/api/settings", status_code=204)
def change_settings(rooms: Rooms, who: Annotator, body: bodies.Settings) -> None:
    """Keep what this person has chosen for their pages."""
    rooms.persons.change_settings(who.id, body.model_dump_json())


@_routes.get("/api/admin/summary")
def read_summary(rooms: Rooms, who: Admin) -> shown.Summary:
    """The project as it stands."""
    return shown.Summary.of(overview(rooms.database, rooms.clock), rooms.clock())


@_routes.post("/api/admin/people")
def add_person(request: Request, rooms: Rooms, who: Admin, body: bodies.NewPerson) -> shown.Link:
    """Let somebody in."""
    person, token = rooms.persons.make(body.name, body.role)
    return _link(request, person, token)


@_routes.post("/api/admin/people/{person}/link", responses=problems(404, 409))
def renew_link(request: Request, rooms: Rooms, who: Admin, person: PathId) -> shown.Link:
    """Give somebody another link; the old one and their sessions end."""
    return _link(request, person, rooms.persons.new_link(person))


@_routes.post("/api/admin/people/{person}/withdraw", status_code=204, responses=problems(404, 409))
def withdraw(rooms: Rooms, who: Admin, person: PathId, body: bodies.Withdrawal | None = None) -> None:
    """End somebody's link and sessions, and give what they hold to others."""
    _not_oneself(who, person)
    rooms.work.withdraw(person, drop=body is not None and body.drop)


@_routes.post("/api/admin/people/{person}/erase", status_code=204, responses=problems(404, 409, 503))
def erase(rooms: Rooms, who: Admin, person: PathId) -> None:
    """Forget who somebody was; they are withdrawn, if they were not yet."""
    _not_oneself(who, person)
    if rooms.entry(person).withdrawn_at is None:
        rooms.work.withdraw(person, drop=False)
    try:
        rooms.persons.erase(person)
    except OSError as error:
        logger.warning("%s", error)
        raise HTTPException(503, _STILL_READ) from error


@_routes.post("/api/admin/pause", status_code=204)
def set_pause(rooms: Rooms, who: Admin, body: bodies.Pause) -> None:
    """Stop giving items out, or go on."""
    pause(rooms.database, body.paused, rooms.clock)


@_routes.post("/api/admin/assignments/{assignment}/release", status_code=204, responses=problems(404))
def release(rooms: Rooms, who: Admin, assignment: PathId) -> None:
    """Take an item from who holds it, so that somebody else gets it."""
    rooms.work.release(assignment)


def create_app(
    database: Database,
    pictures: Pictures,
    *,
    url: str | None = None,
    title: str = "OneReward",
    clock: Clock = time.time,
    visitors: Rates | None = None,
    strangers: Rates | None = None,
) -> FastAPI:
    """The app over a project's database; ValueError if nothing was imported.

    Links begin with `url`, or with what the admin's own browser calls the server; the rates are those of `Gate`.
    """
    with database.reading() as connection:
        project_of(connection)
    pages = Pages(files("onereward.annotate") / "pages", title=title)
    persons = Persons(database, clock)
    work = Work(database, clock)
    app = new_app(
        _routes,
        description="Votes of people on candidates.",
        upload=_MOST_BYTES,
        local_only=False,
        headers=HEADERS,
        show=pages.show,
        begin=database.forget_deleted,
        refusals=[
            (UnknownAssignmentError, refusal(404)),
            (UnknownPersonError, refusal(404)),
            (WithdrawnError, refusal(409)),
            (LostAssignmentError, refusal(410)),
            (ConflictError, refusal(409)),
            (TooSoonError, _too_soon),
        ],
    )
    pages.mount(app)
    app.state.rooms = _Rooms(
        database=database, pictures=pictures, persons=persons, work=work, images=Images(), clock=clock
    )
    app.state.gate = Gate(persons, seconds=SESSION_SECONDS, url=url, visitors=visitors, strangers=strangers)
    return app


def _link(request: Request, person: str, token: str) -> shown.Link:
    return shown.Link(id=person, link=gate_of(request).link(request, token))


def _too_soon(_request: Request, error: Exception) -> Refusal:
    assert isinstance(error, TooSoonError)
    return Refusal(code=425, detail=plain(error), headers={"Retry-After": str(math.ceil(error.left))})


def _not_oneself(who: Person, person: str) -> None:
    if who.id == person:
        raise ConflictError("you cannot withdraw yourself: another admin can, or the command line")
