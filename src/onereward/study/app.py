"""The HTTP side of the study: a participant's pages, the JSON that their scripts send and read, and the results."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response

from onereward.people.database import Database
from onereward.people.persons import SESSION_SECONDS, Clock, Person, Persons, Role
from onereward.people.pictures import Pictures
from onereward.study import bodies
from onereward.study.closing import results_of, status_of
from onereward.study.collecting import Collecting, ConflictError, Stage, UnknownTrialError
from onereward.study.criteria import Kind
from onereward.study.project import ClosedError, Outline, StudyConfig, outline_of, study_of
from onereward.web.bodies import PathId, Token
from onereward.web.entrance import add_entrance
from onereward.web.images import IMAGE_ROUTE, Images
from onereward.web.pages import HEADERS, Pages, pages_of
from onereward.web.rates import Rates
from onereward.web.sessions import Gate, end_session, gate_of, signed_in, stranger
from onereward.web.shell import new_app, plain, problems, refusal

_MOST_BYTES = 2**16
"""Of a request: an answer has some hundred."""
_SECONDS_A_PAGE = {True: 25, False: 12}
"""What a participant is told to expect, for ratings and for comparisons."""


@dataclass(frozen=True, kw_only=True)
class _Rooms:
    """What the routes work with; called from several threads."""

    database: Database
    pictures: Pictures
    persons: Persons
    collecting: Collecting
    images: Images
    config: StudyConfig
    told: Mapping[str, Any]

    def place(self, person: Person) -> bodies.PlaceShown:
        """Where somebody is, as JSON."""
        return bodies.PlaceShown.of(self.collecting.place(person.id), self.config.break_every)


async def _rooms_of(request: Request) -> _Rooms:
    rooms: _Rooms = request.app.state.rooms
    return rooms


Rooms = Annotated[_Rooms, Depends(_rooms_of)]
Participant = Annotated[Person, Depends(signed_in(Role.PARTICIPANT))]
Admin = Annotated[Person, Depends(signed_in(Role.ADMIN))]

_routes = APIRouter(responses=problems(400, 401, 422, 429))


add_entrance(_routes, {Role.PARTICIPANT: "/study", Role.ADMIN: "/status"})


@_routes.get("/join", include_in_schema=False)
def join_page(request: Request, rooms: Rooms) -> HTMLResponse:
    """Asks a stranger who has the open link for their consent, if there is still a place for them."""
    stage = rooms.collecting.stage_of_newcomers()
    if stage in _ENDS:
        return _end(request, stage, newcomer=stage is Stage.FULL)
    return _consent(request, rooms)


@_routes.get("/study", include_in_schema=False)
def study_page(request: Request, rooms: Rooms, who: Participant) -> HTMLResponse:
    """Where a participant is."""
    stage = rooms.collecting.place(who.id).stage
    if stage in _ENDS:
        return _end(request, stage)
    if stage is Stage.CONSENT:
        return _consent(request, rooms, who)
    template = "instructions.html" if stage is Stage.INSTRUCTIONS else "work.html"
    return pages_of(request).page(template, request, who, **rooms.told)


@_routes.get("/left", include_in_schema=False)
async def left_page(request: Request) -> HTMLResponse:
    """Where somebody goes who has left the study."""
    return pages_of(request).page("left.html", request)


@_routes.get("/status", include_in_schema=False)
def status_page(request: Request, rooms: Rooms, who: Admin) -> HTMLResponse:
    """How far the study is; what was answered is for the command line, once it is closed."""
    return pages_of(request).page("status.html", request, who, status=status_of(rooms.database))


@_routes.post("/api/join", dependencies=[Depends(stranger)], responses=problems(409, 410))
def join(request: Request, response: Response, rooms: Rooms, body: Token) -> bodies.Joined:
    """Agree to take part, by the study's open link: a new participant, signed in, and their own link."""
    own = rooms.collecting.join(body.token)
    if own is None:
        raise HTTPException(401, "this link is not valid, or no longer")
    found = rooms.persons.sign_in(own)
    assert found is not None
    gate = gate_of(request)
    gate.start_session(request, response, found[1])
    return bodies.Joined(link=gate.link(request, own))


@_routes.post("/api/join/check", dependencies=[Depends(stranger)])
def check_open_link(request: Request, rooms: Rooms, body: Token) -> bodies.Checked:
    """Whether the study's open link is right, before anybody reads what they agree to; keeps nothing.

    Somebody may be at the study in this browser already: they, or who shares the computer with them, say which it is.
    """
    if not rooms.collecting.opens(body.token):
        raise HTTPException(401, "this link is not valid, or no longer")
    who = gate_of(request).known(request)
    at_it = who is not None and who.role == Role.PARTICIPANT and rooms.collecting.place(who.id).stage not in _ENDS
    return bodies.Checked(at_it=at_it)


@_routes.get("/api/place")
def read_place(rooms: Rooms, who: Participant) -> bodies.PlaceShown:
    """Where this person is, and what comes next."""
    return rooms.place(who)


@_routes.post("/api/consent", status_code=204, responses=problems(409, 410))
def consent(rooms: Rooms, who: Participant) -> None:
    """Agree to take part."""
    rooms.collecting.consent(who.id)


@_routes.post("/api/practice", status_code=204, responses=problems(409, 410))
def begin_practice(rooms: Rooms, who: Participant) -> None:
    """Go on after the instructions."""
    rooms.collecting.begin_practice(who.id)


@_routes.post("/api/block", status_code=204, responses=problems(409, 410))
def begin_block(rooms: Rooms, who: Participant) -> None:
    """Go on after practice, with the next free block."""
    rooms.collecting.begin_block(who.id)


@_routes.post("/api/answers", responses=problems(404, 409, 410))
def answer(rooms: Rooms, who: Participant, body: bodies.Answer) -> bodies.Accepted:
    """Answer a trial; sent again under the same uuid, it is no second answer."""
    state = rooms.collecting.answer(who.id, body.submission())
    return bodies.Accepted(state=state, place=rooms.place(who))


@_routes.post("/api/withdrawal", status_code=204)
def withdraw(response: Response, rooms: Rooms, who: Participant, body: bodies.Withdrawal) -> None:
    """Leave the study for good."""
    rooms.collecting.withdraw(who.id, drop=body.drop)
    end_session(response)


@_routes.get("/api/images/{image}", **IMAGE_ROUTE)
def read_image(rooms: Rooms, who: Participant, image: PathId) -> Response:
    """A picture of what this person is shown; every one is read and sent in the same way."""
    if not rooms.collecting.may_see(who.id, image):
        raise HTTPException(404, "there is no such picture")
    return rooms.images.answer(rooms.pictures.path(image))


@_routes.get(
    "/api/results", response_class=Response, responses={200: {"content": {"application/json": {}}}, **problems(409)}
)
def read_results(rooms: Rooms, who: Admin) -> Response:
    """All figures, once the study is closed, if there are answers and they are what the log of events has."""
    try:
        found = results_of(rooms.database)
    except ValueError as error:
        raise HTTPException(409, plain(error)) from error
    return Response(found.to_json(), media_type="application/json")


def create_app(
    database: Database,
    pictures: Pictures,
    *,
    url: str | None = None,
    clock: Clock = time.time,
    visitors: Rates | None = None,
    strangers: Rates | None = None,
) -> FastAPI:
    """The app over a study's database, reached by people under `url`; the rates are those of `Gate`.

    Raises ValueError if there is no study.
    """
    with database.reading() as connection:
        config, outline = study_of(connection).config, outline_of(connection)
    pages = Pages(files("onereward.study") / "pages", title=config.title)
    persons = Persons(database, clock)
    rooms = _Rooms(
        database=database,
        pictures=pictures,
        persons=persons,
        collecting=Collecting(database, clock),
        images=Images(),
        config=config,
        told=_told(config, outline),
    )
    app = new_app(
        _routes,
        description="Ratings of people.",
        upload=_MOST_BYTES,
        local_only=False,
        headers=HEADERS,
        show=pages.show,
        begin=database.forget_deleted,
        refusals=[
            (UnknownTrialError, refusal(404)),
            (ConflictError, refusal(409)),
            (ClosedError, refusal(410)),
        ],
    )
    pages.mount(app)
    app.state.rooms = rooms
    app.state.gate = Gate(persons, seconds=SESSION_SECONDS, url=url, visitors=visitors, strangers=strangers)
    return app


def _consent(request: Request, rooms: _Rooms, who: Person | None = None) -> HTMLResponse:
    """What somebody agrees to: a participant, or a stranger who becomes one by it."""
    consent = rooms.config.consent.split("\n\n")
    return pages_of(request).page("consent.html", request, who, joins=who is None, consent=consent)


def _end(request: Request, stage: Stage, *, newcomer: bool = False) -> HTMLResponse:
    """A page from which nothing goes on, but for who is no newcomer after all."""
    heading, text = _ENDS[stage]
    finished = stage is Stage.FINISHED
    return pages_of(request).page("end.html", request, heading=heading, text=text, finished=finished, newcomer=newcomer)


_ENDS: dict[Stage, tuple[str, list[str]]] = {
    Stage.FINISHED: (
        "That was the last picture",
        ["Thank you: all your answers are with us. You can close this page now."],
    ),
    Stage.FULL: (
        "All places are taken",
        ["Enough people are taking part at present. Thank you for your interest; a place may become free later."],
    ),
    Stage.CLOSED: ("This study is closed", ["It takes no more answers. Thank you for your interest."]),
}


def _told(config: StudyConfig, outline: Outline) -> dict[str, object]:
    """What the pages say of the study in numbers and words."""
    asked = [criterion.question for criterion in outline.criteria]
    return {
        "rates": config.rates,
        "compares": bool(config.comparisons),
        "count": outline.pages,
        "practice": config.practice,
        "checks": outline.checks,
        "break_every": config.break_every if bodies.breaks_of(outline.pages, config.break_every) else 0,
        "minutes": max(5, 5 * round(outline.pages * _SECONDS_A_PAGE[config.rates] / 300)),
        "questions": [vars(question) | {"graded": question.kind is Kind.GRADED} for question in asked],
    }
