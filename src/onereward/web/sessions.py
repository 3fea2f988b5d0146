"""Who asks: the cookie of a session, and the proof that our own page sent what changes something."""

import hmac
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

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

    def sign_in(self, token: str) -> tuple[_Found, str] | None:
        """Who has the link with this token, and the token of a new session; None if nobody has (any more)."""
        ...

    def sign_out(self, session: str) -> None:
        """End a session."""
        ...


class Gate(Generic[_Visitor]):
    """Lets people pass by their session and not too often; `app.state.gate` of an app whose routes ask `signed_in`.

    A session lasts `seconds`. People reach the app under `url`, if that is not what their browsers call it. `visitors`
    are the rates of people, `strangers` those of addresses that sign in or send what is no session.
    """

    def __init__(
        self,
        sessions: Sessions[_Visitor],
        *,
        seconds: float,
        url: str | None = None,
        visitors: Rates | None = None,
        strangers: Rates | None = None,
    ) -> None:
        self.sessions = sessions
        self._seconds, self._url = seconds, url
        self._visitors = visitors or Rates(per_second=30, burst=150)
        self._strangers = strangers or Rates(per_second=5, burst=100)  # a class may share an address

    def known(self, request: Request) -> _Visitor | None:
        """Who sends a request, if it is somebody; raises HTTPException 429."""
        session = session_of(request)
        if session is None:
            return None
        found = self.sessions.of_session(session)
        _slow_down(self._strangers.wait(_address(request)) if found is None else self._visitors.wait(found.id))
        return found

    def visitor(self, request: Request) -> _Visitor:
        """Who sends a request; raises HTTPException: 401, 429, or 403 for a change that our page did not send."""
        found, session = self.known(request), session_of(request)
        if session is None or found is None:
            raise HTTPException(401, "open the link that you were given: nobody is signed in here, or no longer")
        if request.method not in _SAFE:
            check_origin(request)
            if not hmac.compare_digest(request.headers.get(CSRF_HEADER, "").encode(), csrf_of(session).encode()):
                raise HTTPException(403, f"the header {CSRF_HEADER} is not this session's: load the page again")
        return found

    def stranger(self, request: Request) -> None:
        """Pass a request to sign in; raises HTTPException: 429, or 403 for one that our page did not send."""
        _slow_down(self._strangers.wait(_address(request)))
        check_origin(request)

    def start_session(self, request: Request, response: Response, session: str) -> None:
        """Give the browser its cookie, which no script can read and no other site can send.

        It is kept from plain HTTP where people come by HTTPS, also if the proxy's word for that is not trusted.
        """
        response.set_cookie(
            COOKIE,
            session,
            max_age=int(self._seconds),
            path="/",
            httponly=True,
            samesite="strict",
            secure="https" in (request.url.scheme, urlsplit(self._url or "").scheme),
        )

    def link(self, request: Request, token: str) -> str:
        """The link that signs somebody in by this token."""
        home = self._url or str(request.base_url)
        return f"{home.rstrip('/')}/enter#{token}"


def signed_in(*roles: str) -> Callable[..., Any]:
    """A dependency: the visitor who sends the request, who has one of these roles (any if none is named), or 403."""

    def visitor(request: Request, _told: Annotated[str | None, Security(_COOKIE)]) -> Any:
        found = gate_of(request).visitor(request)
        if roles and found.role not in roles:
            raise HTTPException(403, "your link leads to another page")
        return found

    return visitor


def stranger(request: Request) -> None:
    """A dependency of the route that signs in."""
    gate_of(request).stranger(request)


def gate_of(request: Request) -> Gate[Visitor]:
    """The gate of the request's app."""
    gate: Gate[Visitor] = request.app.state.gate
    return gate


def session_of(request: Request) -> str | None:
    """The token in the request's cookie, if it could be one."""
    token = request.cookies.get(COOKIE, "")
    return token if _TOKEN.fullmatch(token) else None


def csrf_of(session: str) -> str:
    """What a page of this session sends in `X-CSRF-Token`; it cannot be told from outside, nor leads to the session."""
    return hmac.new(session.encode(), b"csrf", "sha256").hexdigest()


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
