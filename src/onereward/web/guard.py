"""What every request passes before a route sees it: how much it may send and from where."""

import logging
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)


class Guard:
    """ASGI middleware: refuses compressed bodies, those of over `upload` bytes and, if `local_only`, other origins.

    A server without a token trusts whoever is on its machine; the host and origin checks keep a web page that is open
    there in a browser from being one of them (DNS rebinding, forged forms). Every answer gets the `headers`, and those
    that refuse a line in the log: code, method and route, nothing of what was sent.
    """

    def __init__(self, app: ASGIApp, *, upload: int, local_only: bool, headers: Mapping[str, str]) -> None:
        self._app = app
        self._upload = upload
        self._local_only = local_only
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the headers, then count what is received."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        answered = self._answered(scope, send)
        try:
            self._check(Headers(scope=scope))
        except HTTPException as refused:
            return await JSONResponse({"detail": refused.detail}, refused.status_code)(scope, receive, answered)
        await self._app(scope, self._counted(receive), answered)

    def _check(self, headers: Headers) -> None:
        if self._local_only:
            _check_local(headers)
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) > self._upload):
            raise self._too_large()
        if headers.get("content-encoding", "identity").strip().lower() != "identity":
            raise HTTPException(415, "send the body without a Content-Encoding")

    def _counted(self, receive: Receive) -> Receive:
        left = self._upload

        async def counting() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise self._too_large()
            return message

        return counting

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"a request may have {self._upload:,} bytes at most: send less")

    def _answered(self, scope: Scope, send: Send) -> Send:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                secure(MutableHeaders(scope=message), self._headers)
                if 400 <= message["status"] < 500:
                    route = getattr(scope.get("route"), "path", "a path that is none")
                    logger.warning("refused with %d: %s %s", message["status"], scope["method"], route)
            await send(message)

        return sending


def secure(headers: MutableHeaders, more: Mapping[str, str]) -> None:
    """Keep an answer out of guesses, and out of caches unless it says otherwise; add `more` headers."""
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault("Cache-Control", "no-store")
    headers.update(more)


def is_loopback(host: str) -> bool:
    """Whether a host name or address reaches this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _check_local(headers: Headers) -> None:
    host = headers.get("host", "")
    if not is_loopback(_name_in(f"//{host}")):
        raise HTTPException(403, "a server without a token answers to localhost alone: start it with --token")
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise HTTPException(403, "a server without a token answers no page of another origin: start it with --token")


def _name_in(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
