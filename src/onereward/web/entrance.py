"""The way in and out of every app with people: /, /enter and the session."""

from collections.abc import Mapping

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from onereward.web.bodies import Token
from onereward.web.pages import pages_of
from onereward.web.sessions import end_session, gate_of, session_of, signed_in, stranger

_ENTER = "/enter"


class SignedIn(BaseModel):
    """Who the link is for."""

    role: str


def add_entrance(router: APIRouter, homes: Mapping[str, str]) -> None:
    """Add the routes by which people sign in and out; `homes` has the path of each role's page."""

    def start(request: Request) -> RedirectResponse:
        """Who has lost the way is shown to their page, or to the door."""
        who = gate_of(request).known(request)
        return RedirectResponse(_ENTER if who is None else homes.get(who.role, _ENTER), 303)

    router.get("/", include_in_schema=False)(start)
    router.get(_ENTER, include_in_schema=False)(enter_page)
    router.post("/api/session", dependencies=[Depends(stranger)])(sign_in)
    router.delete("/api/session", status_code=204, dependencies=[Depends(signed_in())])(sign_out)


async def enter_page(request: Request) -> HTMLResponse:
    """Turns a link's token into a session."""
    return pages_of(request).page("enter.html", request)


def sign_in(request: Request, response: Response, body: Token) -> SignedIn:
    """Begin a session by the token of a link."""
    gate = gate_of(request)
    found = gate.sessions.sign_in(body.token)
    if found is None:
        raise HTTPException(401, "this link is not valid, or no longer: ask for a new one")
    who, session = found
    gate.start_session(request, response, session)
    return SignedIn(role=who.role)


def sign_out(request: Request, response: Response) -> None:
    """End this session."""
    session = session_of(request)
    assert session is not None
    gate_of(request).sessions.sign_out(session)
    end_session(response)
