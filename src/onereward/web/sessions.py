"""Who asks: the cookie of a session, and the proof that our own page sent what changes something."""

import hmac
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Generic, Protocol, TypeVar

from fastapi import Request, Response, Security
from fastapi.security import APIKeyCookie
from starlette.exceptions import HTTPException

from onereward.web.rates import Rates, network_of

COOKIE, CSRF_HEADER = "onereward", "X-CSRF-Token"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{22,64}")
_SAFE = ("GET", "HEAD", "OPTIONS")
_COOKIE = APIKeyCookie(name=COOKIE, auto_error=False)  # what OpenAPI says of it


class Visitor(Protocol):
    """Somebody who has signed in."""

    @property
    def id(self) -> str: ...

    @property
    def role(self) -> str: ...


_Visitor = TypeVar("_Visitor", bound=Visitor)
_Found = TypeVar("_Found", bound=Visitor, covariant=True)


class Sessions(Protocol[_Found]):
    """Where sessions are kept; called from several threads."""

    def of_session(self, session: str) -> _Found | None:
        """Whose session has this token; None for one that has ended or never was."""
        ...


class Gate(Generic[_Visitor]):
    """Lets people pass by their session and not too often; `app.state.gate` of an app whose routes ask `signed_in`.

    `visitors` are the rates of people, `strangers` those of addresses that sign in or send what is no session.
    """

    def __init__(
        self, sessions: Sessions[_Visitor], *, visitors: Rates | None = None, strangers: Rates | None = None
    ) -> None:
        self._sessions = sessions
        self._visitors = visitors or Rates(per_second=30, burst=150)
        self._strangers = strangers or Rates(per_second=5, burst=100)  # a class may share an address

    def visitor(self, request: Request) -> _Visitor:
        """Who sends a request; raises HTTPException: 401, 429, or 403 for a change that our page did not send."""
        session = session_of(request)
        found = None
        if session is not None:
            found = self._sessions.of_session(session)
            if found is None:
                _slow_down(self._strangers.wait(_address(request)))
        if session is None or found is None:
            raise HTTPException(401, "you are not signed in here, or no longer: open the link that you were given")
        _slow_down(self._visitors.wait(found.id))
        if request.method not in _SAFE:
            check_origin(request)
            if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_of(session).encode()):
                raise HTTPException(403, f"the header {CSRF_HEADER} is not this session's: load the page again")
        return found

    def stranger(self, request: Request) -> None:
        """Pass a request to sign in; raises HTTPException: 429, or 403 for one that our page did not send."""
        _slow_down(self._strangers.wait(_address(request)))
        check_origin(request)


def signed_in(*roles: str) -> Callable[..., Any]:
    """A dependency: the visitor who sends the request, who has one of these roles (any if none is named), or 403."""

    def visitor(request: Request, _told: Annotated[str | None, Security(_COOKIE)]) -> Any:
        gate: Gate[Visitor] = request.app.state.gate
        found = gate.visitor(request)
        if roles and found.role not in roles:
            raise HTTPException(403, "this is for others: your link is not for this page")
        return found

    return visitor


def stranger(request: Request) -> None:
    """A dependency of the route that signs in."""
    gate: Gate[Visitor] = request.app.state.gate
    gate.stranger(request)


def session_of(request: Request) -> str | None:
    """The token in the request's cookie, if it could be one."""
    token = request.cookies.get(COOKIE, "")
    return token if _TOKEN.fullmatch(token) else None


def csrf_of(session: str) -> str:
    """What a page of this session sends in `X-CSRF-Token`; it cannot be told from outside, nor leads to the session."""
    return hmac.new(session.encode(), b"csrf", "sha256").hexdigest()


def start_session(request: Request, response: Response, session: str, seconds: float) -> None:
    """Give the browser its cookie, which no script can read and no other site can send."""
    response.set_cookie(
        COOKIE,
        session,
        max_age=int(seconds),
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )


def end_session(response: Response) -> None:
    """Take the cookie back."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


def check_origin(request: Request) -> None:
    """Raise HTTPException 403 unless the browser says that a page of this server sent the request."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    host = request.headers.get("host", "")
    foreign = site not in (None, "same-origin") or (origin is not None and origin.partition("://")[2] != host)
    if foreign or (site is None and origin is None):
        raise HTTPException(
            403, "a page of another origin sent this, or none: a proxy before the server must pass on Host and Origin"
        )


def _address(request: Request) -> str:
    return network_of(request.client.host if request.client else "")


def _slow_down(seconds: float) -> None:
    if seconds > 0:
        raise HTTPException(429, "too many requests: wait a little", {"Retry-After": str(math.ceil(seconds))})
